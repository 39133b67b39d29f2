"""The methods of an evaluation: trained models first, then baselines."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from ucn.errors import UserError
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.baselines import DESCRIBERS, MATCHERS, TITLES, unavailable
from ucn.evaluation.methods.baselines.googlenet import googlenet_model
from ucn.evaluation.methods.dense import Extract, dense_descriptor
from ucn.evaluation.scores.patch_verification import (
    DescribePatches,
    describe_patches,
    network_patch_describer,
)
from ucn.matching.descriptors import Describe, Match
from ucn.matching.scales import extract
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
    """A matching method: either a dense descriptor or a direct matcher; the other is None.

    `patches` describes patches; None for direct matchers.
    """

    name: str
    extract: Extract | None = None
    match: Match | None = None
    patches: DescribePatches | None = None


def method_labels(config: EvaluateConfig) -> list[Label]:
    """Labels of all methods, including unavailable ones.

    Raises:
        UserError: as in :func:`named_models`.
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
    baselines = [
        Label(
            name, TITLES[name], f"baseline/{name}/", learned=False, reason=unavailable(name) or ""
        )
        for name in config.baselines
    ]
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
        if names.count(name) > 1 or name in TITLES:
            raise UserError(f"--model {name}=...: the name is taken; give another NAME=FOLDER")
    return named


def build_methods(config: EvaluateConfig) -> list[Method]:
    """Builds all available methods, in the order of :func:`method_labels`.

    Raises:
        UserError: a model or weights cannot be read.
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
    for name in config.baselines:
        if name == "googlenet" and config.googlenet_weights is not None:
            model = googlenet_model(config.googlenet_weights)
            methods.append(
                Method(
                    name,
                    extract=partial(model.extract, scales=config.matching.scales),
                    patches=network_patch_describer(model),
                )
            )
        elif name in MATCHERS:
            methods.append(Method(name, match=MATCHERS[name]))
        elif not unavailable(name):
            methods.append(_described(name, DESCRIBERS[name], config))
    return methods


def _described(name: str, describe: Describe, config: EvaluateConfig) -> Method:
    describe_map = dense_descriptor(describe, config.matching.grid_step, config.device)
    return Method(
        name,
        extract=partial(extract, describe=describe_map, levels=config.matching.scales),
        patches=partial(describe_patches, describe=describe),
    )


def _folder_name(folder: str) -> str:
    parts = [part for part in PurePosixPath(folder).parts if part not in ("/", ".", "..")]
    telling = [part for part in parts if part not in _ANY]
    return (telling or parts or [UCN])[-1]
