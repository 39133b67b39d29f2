"""The report on one set of shards, and the metrics of all sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.build import Label, method_labels
from ucn.evaluation.report.breakdown import Breakdown, breakdowns, filter_curves, sparse_bounds
from ucn.evaluation.report.match_pictures import MatchPicture
from ucn.evaluation.report.summary import MethodSummary, PairResult, known_lengths, summarise
from ucn.evaluation.scores.pck import TABLE_ALPHA, Criterion, usual_length
from ucn.matching.filters import PrecisionRecall
from ucn.preprocessing.shards.read import ShardDataset


@dataclass(frozen=True)
class SetReport:
    """The report on one set of shards.

    Attributes:
        name: name of the set in metric names.
        uri, digest: location of the set, and the SHA-256 of its manifest.
        length: name of the length L of PCK at alpha; empty without labelled keypoints.
        criterion: condition of a correct match: alpha if all pairs have labelled keypoints, else
            pixels.
        labels: all methods by name, including unavailable ones.
        methods: results over the whole set, one row per method.
        sequences: results over each sequence.
        breakdowns: PCK of subsets of the points.
        filters: precision and recall by method and filter; empty without a correct match.
        bounds: by detector of the sparse protocol, the number of points, and the PCK of a perfect
            matcher at each threshold; no PCK without points.
        pictures: for each drawn pair, one picture per method, from the best pair of the first
            method to the worst.
        published: published results, by title and metric.
    """

    name: str
    uri: str
    digest: str
    length: str
    criterion: Criterion
    labels: Mapping[str, Label]
    methods: Sequence[MethodSummary]
    sequences: Mapping[str, Sequence[MethodSummary]]
    breakdowns: Sequence[Breakdown]
    filters: Mapping[str, Mapping[str, PrecisionRecall]]
    bounds: Mapping[str, tuple[int, tuple[float, ...]]]
    pictures: Sequence[Sequence[MatchPicture]]
    published: Mapping[str, Mapping[str, float]]

    @property
    def class_criterion(self) -> Criterion:
        """Condition of a correct match in the class table of labelled keypoints."""
        return Criterion(TABLE_ALPHA, self.length)

    @property
    def missing(self) -> list[Label]:
        """Methods that are not available, with their reasons."""
        return [label for label in self.labels.values() if label.reason]


def report_set(
    name: str,
    dataset: ShardDataset,
    results: Sequence[PairResult],
    pictures: Sequence[Sequence[MatchPicture]],
    config: EvaluateConfig,
    published: Mapping[str, Mapping[str, float]],
) -> SetReport:
    """Summarises all pairs of a set.

    Args:
        name: name of the set in metric names.
        dataset: the set.
        results: results of all pairs.
        pictures: for each drawn pair, one picture per method.
        config: configuration of the evaluation.
        published: published results on the set.
    """
    sequences: dict[str, list[PairResult]] = {}
    for result in sorted(results, key=lambda result: result.index):
        sequences.setdefault(result.sequence, []).append(result)
    ordered = [pair for pairs in sequences.values() for pair in pairs]
    methods = list(ordered[0].methods)
    source = dataset.manifest.configuration.get("source", "")
    length = usual_length(source) if known_lengths(results) else ""
    criterion = (
        Criterion(TABLE_ALPHA, length)
        if all(result.facts.lengths for result in results)
        else Criterion(max(config.thresholds))
    )
    return SetReport(
        name=name,
        uri=dataset.uri,
        digest=dataset.digest,
        length=length,
        criterion=criterion,
        labels={label.name: label for label in method_labels(config)},
        methods=[summarise(method, ordered, config) for method in methods],
        sequences={
            sequence: [summarise(method, pairs, config) for method in methods]
            for sequence, pairs in sorted(sequences.items())
        },
        breakdowns=breakdowns(results, config),
        filters=filter_curves(results, criterion),
        bounds=sparse_bounds(results, config.thresholds),
        pictures=sorted(pictures, key=lambda drawn: -drawn[0].percent),
        published=published,
    )


def all_metrics(
    reports: Sequence[SetReport],
    patches: Mapping[str, Mapping[str, float]],
    config: EvaluateConfig,
) -> dict[str, float]:
    """Metrics of all sets. Names of sets after the first start with the set's name.

    Args:
        reports: reports on all sets.
        patches: FPR95 by folder and method; named ``patches/FOLDER/fpr95``.
        config: configuration of the evaluation.
    """
    labels = {label.name: label for label in method_labels(config)}
    metrics = {
        f"{labels[method].prefix}patches/{folder}/fpr95": value
        for folder, by_method in patches.items()
        for method, value in by_method.items()
    }
    for rank, report in enumerate(reports):
        place = f"{report.name}/" if rank else ""
        metrics |= {
            f"{place}{labels[row.method].prefix}{name}": value
            for row in report.methods
            for name, value in row.metrics.items()
        }
    return metrics
