"""`ucn run`: preprocess each split, train, evaluate. Finished work is not repeated."""

import sys
from dataclasses import dataclass

from tqdm import tqdm

from ucn.cluster.session import ray_session
from ucn.errors import counted
from ucn.evaluation.job import EvaluateResult, evaluate
from ucn.pipeline.config import RunConfig
from ucn.preprocessing.job import preprocess
from ucn.training.job import TrainResult, train


@dataclass(frozen=True)
class RunResult:
    """Results of a run."""

    train: TrainResult
    evaluate: EvaluateResult


def run(config: RunConfig) -> RunResult:
    """Preprocesses, trains and evaluates; resumes an interrupted run.

    Raises:
        UserError: input or configuration of a stage is wrong.
    """
    with ray_session():
        for split, source in config.shards.items():
            totals = preprocess(source).totals
            skipped = sum(totals.skipped.values())
            tqdm.write(
                f"{split}: {counted(totals.samples, 'pair')}, {counted(totals.matches, 'match')}"
                + (f", {skipped} inputs skipped" if skipped else ""),
                file=sys.stderr,
            )
        trained = train(config.train)
        evaluated = evaluate(config.evaluate)
    return RunResult(trained, evaluated)
