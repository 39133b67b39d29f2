"""The worker process of an evaluation. It builds every method once, for all its pairs."""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import cv2
import torch

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.matches import Matches, PairMatches
from ucn.evaluation.methods.build import Method, build_methods
from ucn.evaluation.pair import match_pair, pair_queries
from ucn.evaluation.report.match_pictures import MatchPicture, draw_method
from ucn.evaluation.report.summary import PairResult
from ucn.evaluation.score import score_method, score_planar
from ucn.evaluation.scores.brown_patches import Ints
from ucn.evaluation.scores.patch_verification import describe_chunk
from ucn.evaluation.truth import choose_points, pair_truth
from ucn.matching.descriptors import Floats
from ucn.preprocessing.shards.read import ShardDataset


class PairWorker:
    """Matches, scores and draws pairs one at a time.

    Each result depends only on the configuration and the pair.

    Args:
        config: configuration of the evaluation.
        shards: folders or URIs of the sets of shards.
    """

    def __init__(self, config: EvaluateConfig, shards: Sequence[str]) -> None:
        # One thread per worker: workers share the CPUs, and the order of summation is fixed.
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        self.config = config
        self.sets = [ShardDataset(uri) for uri in shards]

    @cached_property
    def methods(self) -> dict[str, Method]:
        """All available methods by name. Scoring alone does not need them."""
        return {method.name: method for method in build_methods(self.config)}

    def match(self, which: int, index: int, names: Collection[str]) -> dict[str, PairMatches]:
        """Matches pair ``index`` of set ``which`` by the named methods."""
        sample = self.sets[which][index]
        truth = pair_truth(sample, index, self.config)
        queries = pair_queries(sample, truth, index, self.config)
        return {
            name: match_pair(sample, self.methods[name], queries, self.config) for name in names
        }

    def score(self, which: int, index: int, found: Mapping[str, PairMatches]) -> PairResult:
        """Scores the matches of a pair, by name of the method."""
        sample = self.sets[which][index]
        truth = pair_truth(sample, index, self.config)
        planar = {name: score_planar(sample, one, self.config) for name, one in found.items()}
        return PairResult(
            index,
            sample.key,
            self.sets[which].sequence_of(index),
            truth.facts,
            {name: score_method(truth, one, self.config) for name, one in found.items()},
            {name: errors for name, errors in planar.items() if errors is not None},
        )

    def draw(self, which: int, index: int, points: Mapping[str, Matches]) -> list[MatchPicture]:
        """Draws the matches of a pair's points, one picture per method."""
        sample = self.sets[which][index]
        config, available = self.config, len(sample.matches_N4)
        truth_N4 = sample.matches_N4[choose_points(available, config.points, config.seed, index)]
        return [
            draw_method(sample, name, matches.matches_N4, truth_N4, config)
            for name, matches in points.items()
        ]

    def describe_patches(self, folder: Path, numbers_N: Ints) -> dict[str, Floats]:
        """Describes patches by every method with descriptors: float32 [N, D] by its name."""
        return {
            name: describe_chunk(folder, numbers_N, method.patches)
            for name, method in self.methods.items()
            if method.patches is not None
        }
