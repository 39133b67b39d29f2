"""Everything that is told of one set of shards, and the metrics of all sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.build import Label, method_labels
from ucn.evaluation.report.breakdown import Breakdown, breakdowns, filter_curves, sparse_bounds
from ucn.evaluation.report.match_pictures import MatchPicture
from ucn.evaluation.report.summary import MethodSummary, PairResult, named_metrics, summarise_set
from ucn.matching.filters import PrecisionRecall
from ucn.preprocessing.shards.read import ShardDataset


@dataclass(frozen=True)
class SetReport:
    """Everything that is told of one set of shards.

    Attributes:
        name: of the set, as in the metric names.
        uri, digest: where it lies, and the sha256 of its manifest.
        labels: of all methods by name, those that are not there among them.
        methods: one row a method, over the whole set.
        sequences: the same for each sequence.
        breakdowns: PCK of parts of the points.
        filters: precision and recall by method and filter.
        bounds: of the sparse protocol by detector: points asked for, and what a perfect matcher
            would reach at each threshold.
        pictures: for each pair drawn, one picture a method.
        published: what others report, by title and metric.
    """

    name: str
    uri: str
    digest: str
    labels: Mapping[str, Label]
    methods: Sequence[MethodSummary]
    sequences: Mapping[str, Sequence[MethodSummary]]
    breakdowns: Sequence[Breakdown]
    filters: Mapping[str, Mapping[str, PrecisionRecall]]
    bounds: Mapping[str, tuple[int, tuple[float, ...]]]
    pictures: Sequence[Sequence[MatchPicture]]
    published: Mapping[str, Mapping[str, float]]

    @property
    def missing(self) -> list[Label]:
        """Methods that this machine has not, with their reasons."""
        return [label for label in self.labels.values() if label.reason]


def report_set(
    name: str,
    dataset: ShardDataset,
    results: Sequence[PairResult],
    pictures: Sequence[Sequence[MatchPicture]],
    config: EvaluateConfig,
    published: Mapping[str, Mapping[str, float]],
) -> SetReport:
    """Sum up all pairs of a set.

    Args:
        published: what others report on it.
    """
    whole, sequences = summarise_set(results, config)
    return SetReport(
        name=name,
        uri=dataset.uri,
        digest=dataset.digest,
        labels={label.name: label for label in method_labels(config)},
        methods=whole,
        sequences=sequences,
        breakdowns=breakdowns(results, config),
        filters=filter_curves(results, max(config.thresholds)),
        bounds=sparse_bounds(results, config.thresholds),
        pictures=pictures,
        published=published,
    )


def all_metrics(
    reports: Sequence[SetReport],
    patches: Mapping[str, Mapping[str, float]],
    config: EvaluateConfig,
) -> dict[str, float]:
    """Metrics of all sets: the first under plain names, the others under their set's name.

    Args:
        patches: FPR95 by folder and method; ``patches/FOLDER/fpr95``.
    """
    labels = {label.name: label for label in method_labels(config)}
    metrics = {
        f"{labels[method].prefix}patches/{folder}/fpr95": value
        for folder, by_method in patches.items()
        for method, value in by_method.items()
    }
    for rank, report in enumerate(reports):
        place = f"{report.name}/" if rank else ""
        named = named_metrics(report.methods, labels)
        metrics |= {f"{place}{name}": value for name, value in named.items()}
    return metrics


def all_curves(reports: Sequence[SetReport]) -> dict[str, tuple[float, ...]]:
    """PCK at 1 to 50 px of all methods and sets: ``pck_curve``, placed as the metrics are."""
    return {
        f"{f'{report.name}/' if rank else ''}{report.labels[row.method].prefix}pck_curve": row.curve
        for rank, report in enumerate(reports)
        for row in report.methods
    }
