"""One process's share of an evaluation: the network is loaded once for all its pairs."""

from collections.abc import Sequence

import cv2
import torch

from evaluation.baselines import BASELINES
from evaluation.config import EvaluateConfig
from evaluation.descriptors import Describe, network_describer
from evaluation.match_pictures import MatchPicture, draw_method
from evaluation.pair import MethodOnPair, choose_points, evaluate_method
from evaluation.summary import UCN, MethodResult, PairResult
from preprocessing.sample import Sample
from preprocessing.shards.read import ShardDataset
from training.model import load_model


def build_methods(config: EvaluateConfig) -> dict[str, Describe]:
    """Make the descriptors to compare, the trained one first.

    Raises:
        UserError: the model's folder is none.
    """
    methods: dict[str, Describe] = {}
    if config.model is not None:
        methods[UCN] = network_describer(load_model(config.model, config.device))
    return methods | {name: BASELINES[name] for name in config.baselines}


class PairWorker:
    """Evaluates pairs one by one; each result depends on the configuration and the pair alone.

    Args:
        config: what to evaluate.
        shards: where the sets of shards lie.
    """

    def __init__(self, config: EvaluateConfig, shards: Sequence[str]) -> None:
        # One thread each: the workers share the CPUs, and sums keep their order.
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        self.config = config
        self.methods = build_methods(config)
        self.sets = [ShardDataset(uri) for uri in shards]

    def evaluate(self, which: int, index: int) -> PairResult:
        """Evaluate all methods on pair ``index`` of set ``which``."""
        sample, found = self._run(which, index)
        methods = {
            name: MethodResult(one.errors_N, int(one.reciprocal_N.sum()), one.poses)
            for name, one in found.items()
        }
        sequence = self.sets[which].sequence_of(index)
        return PairResult(index, sample.key, sequence, methods)

    def draw(self, which: int, index: int) -> list[MatchPicture]:
        """Evaluate the pair again and draw its matches, one picture a method."""
        sample, found = self._run(which, index)
        threshold = max(self.config.thresholds)
        return [draw_method(sample, name, one, threshold) for name, one in found.items()]

    def _run(self, which: int, index: int) -> tuple[Sample, dict[str, MethodOnPair]]:
        sample = self.sets[which][index]
        truth_N4 = choose_points(sample.matches_N4, self.config.points, self.config.seed, index)
        return sample, {
            name: evaluate_method(sample, truth_N4, describe, self.config)
            for name, describe in self.methods.items()
        }
