"""The methods of an evaluation: trained models first, then baselines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from ucn.errors import UserError
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.baselines.base import (
    Baseline,
    DenseDescriber,
    KeypointMatcher,
    PointDescriber,
    PointMatcher,
)
from ucn.evaluation.methods.baselines.registry import BASELINES, method_name
from ucn.evaluation.methods.baselines.sparse_keypoints import SparseKeypoints
from ucn.evaluation.methods.dense import Extract, dense_descriptor
from ucn.evaluation.scores.patch_verification import (
    DescribePatches,
    describe_patches,
    network_patch_describer,
)
from ucn.matching.descriptors import Floats, Match
from ucn.matching.scales import extract
from ucn.preprocessing.sample import Sample
from ucn.training.model import SHIPPED, load_model

UCN = "ucn"
"""Default name of the first trained model."""
_TITLES = {UCN: "UCN", SHIPPED: "UCN as shipped"}
# Common folder names that do not distinguish models.
_ANY = {"model", "train", "models", "final", "best"}


@dataclass(frozen=True)
class Label:
    """Names of a method.

    Attributes:
        name: name in tables and file names.
        title: display name.
        prefix: prefix of its metrics; empty for the first model.
        learned: whether it is a trained model.
        reason: why the method is not available; empty if it is.
    """

    name: str
    title: str
    prefix: str
    learned: bool
    reason: str = ""


@dataclass(frozen=True)
class Method:
    """A matching method. Exactly one of `extract`, `match` and `match_pair` is not None.

    Attributes:
        name: name in tables and file names.
        extract: describes an image densely.
        match: matches points without descriptors.
        patches: describes patches; set where `extract` is.
        match_pair: maps a sample to matches of the method's own points: float32 [K, 4].
    """

    name: str
    extract: Extract | None = None
    match: Match | None = None
    patches: DescribePatches | None = None
    match_pair: Callable[[Sample], Floats] | None = None


def method_labels(config: EvaluateConfig) -> list[Label]:
    """Labels of all methods, including unavailable ones.

    Raises:
        UserError: as in :func:`named_models`, or a baseline cannot be imported.
    """
    names = [name for name, _ in named_models(config.model)]
    models = [
        Label(
            name,
            _TITLES.get(name, name),
            "" if rank == 0 else f"model/{name}/",
            learned=True,
        )
        for rank, name in enumerate(names)
    ]
    baselines = []
    for entry in config.baselines:
        name, kind = method_name(entry), BASELINES.load(entry)
        if name in names:
            raise UserError(f"--model {name}=...: the name is taken; give another NAME=FOLDER")
        title, prefix, reason = kind.title or name, f"baseline/{name}/", kind.unavailable()
        baselines.append(Label(name, title, prefix, learned=False, reason=reason))
    return models + baselines


def named_models(models: Sequence[str]) -> list[tuple[str, str]]:
    """Splits NAME=FOLDER. The default name is `ucn` for a single model, else the folder's name.

    Raises:
        UserError: two models have the same name, or a model has the name of a baseline.
    """
    named = []
    for model in models:
        name, is_named, folder = model.partition("=")
        if is_named and "/" not in name:
            named.append((name, folder))
        else:
            named.append((UCN if len(models) == 1 else _folder_name(model), model))
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1 or name in BASELINES.builtin:
            raise UserError(f"--model {name}=...: the name is taken; give another NAME=FOLDER")
    return named


def build_methods(config: EvaluateConfig) -> list[Method]:
    """Builds all available methods, in the order of :func:`method_labels`.

    Raises:
        UserError: a model or weights cannot be read, or an option of a baseline is invalid.
    """
    methods = []
    for name, folder in named_models(config.model):
        model = load_model(folder, config.device)
        methods.append(
            Method(
                name,
                extract=partial(model.extract, scales=config.matching.scales),
                patches=network_patch_describer(model),
            )
        )
    for entry in config.baselines:
        kind = BASELINES.load(entry)
        if not kind.unavailable():
            baseline = kind.model_validate(_options(kind, entry, config))
            methods.append(_method(method_name(entry), baseline, config))
    return methods


def _options(kind: type[Baseline], entry: str, config: EvaluateConfig) -> dict[str, Any]:
    """Options of a baseline: its own, and those that the evaluation has for it."""
    options = config.baseline_options.get(entry, {})
    if entry == "googlenet":
        return {"weights": config.googlenet_weights} | options
    if issubclass(kind, SparseKeypoints):
        return {"keypoints": config.keypoints} | options
    return options


def _method(name: str, baseline: Baseline, config: EvaluateConfig) -> Method:
    scales = config.matching.scales
    if isinstance(baseline, PointDescriber):
        describe = baseline.describe
        describe_map = dense_descriptor(describe, config.matching.grid_step, config.device)
        return Method(
            name,
            extract=partial(extract, describe=describe_map, levels=scales),
            patches=partial(describe_patches, describe=describe),
        )
    if isinstance(baseline, DenseDescriber):
        dense = baseline
        return Method(
            name,
            extract=partial(extract, describe=dense.describe_map, levels=scales),
            patches=partial(
                describe_patches,
                describe=lambda image, points: extract(image, dense.describe_map).at(points),
            ),
        )
    if isinstance(baseline, PointMatcher):
        return Method(name, match=baseline.match)
    if isinstance(baseline, KeypointMatcher):
        match_pair = baseline.match_pair
        return Method(name, match_pair=lambda sample: match_pair(sample.image0, sample.image1))
    raise UserError(
        f"{name}: derive it from PointDescriber, DenseDescriber, PointMatcher or KeypointMatcher"
    )


def _folder_name(folder: str) -> str:
    parts = [part for part in PurePosixPath(folder).parts if part not in ("/", ".", "..")]
    telling = [part for part in parts if part not in _ANY]
    return (telling or parts or [UCN])[-1]
