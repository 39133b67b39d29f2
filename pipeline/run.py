"""The whole road: preprocess each split, train, evaluate; what is done is not done again."""

import sys
from dataclasses import dataclass

from tqdm import tqdm

from ucn.cluster.session import ray_session
from ucn.evaluation.job import EvaluateResult, evaluate
from ucn.pipeline.config import RunConfig
from ucn.preprocessing.job import preprocess
from ucn.training.job import TrainResult, train


@dataclass(frozen=True)
class RunResult:
    """What a run leaves.

    Attributes:
        train: the model and the last metrics of training.
        evaluate: the metrics and the report.
    """

    train: TrainResult
    evaluate: EvaluateResult


def run(config: RunConfig) -> RunResult:
    """Preprocess, train and evaluate; resumes where an interrupted run stopped.

    Raises:
        UserError: the first thing that the user must mend, in any of the stages.
    """
    with ray_session():
        for split, source in config.shards.items():
            totals = preprocess(source).totals
            skipped = sum(totals.skipped.values())
            tqdm.write(
                f"{split}: {totals.samples} pairs, {totals.matches:,} matches"
                + (f", {skipped} inputs skipped" if skipped else ""),
                file=sys.stderr,
            )
        trained = train(config.train)
        evaluated = evaluate(config.evaluate)
    return RunResult(trained, evaluated)
