"""The worker process of an evaluation. It builds every method once, for all its pairs."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.build import build_methods
from ucn.evaluation.pair import evaluate_method, evaluate_planar
from ucn.evaluation.report.match_pictures import MatchPicture, draw_method
from ucn.evaluation.report.summary import MethodResult, PairResult
from ucn.evaluation.scores.brown_patches import Ints
from ucn.evaluation.scores.patch_verification import describe_chunk
from ucn.evaluation.scores.planar import PlanarErrors
from ucn.evaluation.truth import pair_truth
from ucn.matching.descriptors import Floats
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.read import ShardDataset


class PairWorker:
    """Evaluates pairs one at a time. Each result depends only on the configuration and the pair.

    Args:
        config: configuration of the evaluation.
        shards: folders or URIs of the sets of shards.
    """

    def __init__(self, config: EvaluateConfig, shards: Sequence[str]) -> None:
        # One thread per worker: workers share the CPUs, and the order of summation is fixed.
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        self.config = config
        self.methods = build_methods(config)
        self.sets = [ShardDataset(uri) for uri in shards]

    def evaluate(self, which: int, index: int) -> PairResult:
        """Evaluates all methods on pair ``index`` of set ``which``."""
        sample = self.sets[which][index]
        truth = pair_truth(sample, index, self.config)
        methods: dict[str, MethodResult] = {}
        for method in self.methods:
            one = evaluate_method(sample, truth, method, self.config, index)
            reciprocal = int(one.reciprocal_N.sum())
            methods[method.name] = MethodResult(
                one.errors_N, reciprocal, one.poses, one.sparse, one.scores
            )
        sequence = self.sets[which].sequence_of(index)
        return PairResult(index, sample.key, sequence, truth.facts, methods, self._planar(sample))

    def draw(self, which: int, index: int) -> list[MatchPicture]:
        """Matches the pair again and draws the matches, one picture per method."""
        pose = self.config.pose.model_copy(update={"estimators": ()})
        matches_alone = {"pose": pose, "sparse": (), "filters": False}
        config = self.config.model_copy(update=matches_alone)
        sample = self.sets[which][index]
        truth = pair_truth(sample, index, config)
        return [
            draw_method(
                sample,
                method.name,
                evaluate_method(sample, truth, method, config, index).matches_N4,
                truth.truth_N4,
                config,
            )
            for method in self.methods
        ]

    def describe_patches(self, folder: Path, numbers_N: Ints) -> dict[str, Floats]:
        """Describes patches by every method with descriptors: float32 [N, D] by its name."""
        return {
            method.name: describe_chunk(folder, numbers_N, method.patches)
            for method in self.methods
            if method.patches is not None
        }

    def _planar(self, sample: Sample) -> dict[str, PlanarErrors]:
        """Planar errors of every method with descriptors; empty without a known homography."""
        H_1_0 = sample.metadata.get("H_1_0")
        if H_1_0 is None:
            return {}
        return {
            method.name: evaluate_planar(
                sample, np.asarray(H_1_0, np.float64), method.extract, self.config
            )
            for method in self.methods
            if method.extract is not None
        }
