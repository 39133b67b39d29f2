"""The methods of an evaluation: trained models, then baselines, then matches made elsewhere."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from cachetools import LRUCache

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
from ucn.evaluation.scores.patch_verification import (
    DescribePatches,
    describe_patches,
    network_patch_describer,
)
from ucn.matching.descriptors import Floats, Match, Pixels
from ucn.matching.features import Features
from ucn.matching.scales import Extract, dense_descriptor, extract
from ucn.preprocessing.sample import Sample
from ucn.registry import import_own
from ucn.training.device import resolve_device
from ucn.training.model import SHIPPED, load_model

UCN = "ucn"
"""Default name of the first trained model."""
CACHED_BYTES = 1 << 30
"""Memory of a worker for the descriptors of recent images."""
_TITLES = {UCN: "UCN", SHIPPED: "UCN as shipped"}
# Common folder names that do not distinguish models.
_ANY = {"model", "train", "models", "final", "best", "runs"}


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
    """A matching method. One of `extract`, `match`, `match_pair` and `external` is given.

    Attributes:
        name: name in tables and file names.
        extract: describes an image densely.
        match: matches points without descriptors, such as optical flow.
        patches: describes patches; set where `extract` is.
        match_pair: maps a sample to matches of the method's own points: float32 [K, 4].
        external: folder of matches made elsewhere; see `.external`.
    """

    name: str
    extract: Extract | None = None
    match: Match | None = None
    patches: DescribePatches | None = None
    match_pair: Callable[[Sample], Floats] | None = None
    external: Path | None = None


def method_labels(config: EvaluateConfig) -> list[Label]:
    """Labels of all methods, including unavailable ones.

    Raises:
        UserError: as in :func:`named_models` and :func:`named_external`, or a baseline cannot be
            imported.
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
    external = [
        Label(name, name, f"external/{name}/", learned=False) for name, _ in named_external(config)
    ]
    return models + baselines + external


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


def named_external(config: EvaluateConfig) -> list[tuple[str, Path]]:
    """Splits NAME=DIR of `EvaluateConfig.external`.

    Raises:
        UserError: a name is missing, or taken by another method.
    """
    taken = {name for name, _ in named_models(config.model)} | {
        method_name(entry) for entry in (*BASELINES.builtin, *config.baselines)
    }
    named = []
    for value in config.external:
        name, _, folder = value.partition("=")
        if not re.fullmatch(r"[\w.-]+", name) or not folder:
            raise UserError(f"--external {value}: not NAME=DIR; NAME has letters, digits, . _ -")
        if name in taken:
            raise UserError(f"--external {value}: the name is taken; give another NAME=DIR")
        taken.add(name)
        named.append((name, Path(folder)))
    return named


def build_methods(config: EvaluateConfig) -> list[Method]:
    """Builds all available methods, in the order of :func:`method_labels`.

    Raises:
        UserError: a model or weights cannot be read, or an option of a baseline is invalid.
    """
    methods = []
    device = str(resolve_device(config.device))
    for module in config.imports:
        import_own(module)
    for name, folder in named_models(config.model):
        model = load_model(folder, device)
        described = partial(model.extract, scales=config.matching.scales)
        methods.append(Method(name, described, patches=network_patch_describer(model)))
    for entry in config.baselines:
        kind = BASELINES.load(entry)
        if not kind.unavailable():
            baseline = kind.model_validate(_options(kind, entry, config))
            methods.append(_method(method_name(entry), baseline, config, device))
    step_px = config.matching.grid_step
    cache: LRUCache[Any, Features] = LRUCache(
        CACHED_BYTES, lambda features: features.num_bytes(step_px)
    )
    return [
        replace(method, extract=_cached(method.name, method.extract, cache))
        if method.extract
        else method
        for method in methods
    ] + [Method(name, external=folder) for name, folder in named_external(config)]


def _cached(name: str, extract: Extract, cache: "LRUCache[Any, Features]") -> Extract:
    """Keeps the features of recent images, since an image serves several pairs."""

    def extract_once(image: Pixels) -> Features:
        key = name, image.shape, hashlib.blake2b(image.tobytes()).digest()
        features = cache.get(key)
        if features is None:
            features = extract(image)
            if cache.getsizeof(features) <= cache.maxsize:
                cache[key] = features
        return features

    return extract_once


def _options(kind: type[Baseline], entry: str, config: EvaluateConfig) -> dict[str, Any]:
    """Options of a baseline: its own, and those that the evaluation has for it."""
    options = config.baseline_options.get(entry, {})
    if entry == "googlenet":
        return {"weights": config.googlenet_weights} | options
    if issubclass(kind, SparseKeypoints):
        return {"keypoints": config.keypoints} | options
    return options


def _method(name: str, baseline: Baseline, config: EvaluateConfig, device: str) -> Method:
    scales = config.matching.scales
    if isinstance(baseline, PointDescriber):
        describe = baseline.describe
        describe_map = dense_descriptor(describe, config.matching.grid_step, device)
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
    return (telling or parts[:-1] or parts or [UCN])[-1]
