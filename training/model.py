"""A trained model as a folder: weights, and what one must know to use them."""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ucn.config import FrozenConfig
from ucn.errors import UserError
from ucn.matching.features import Dense, Features
from ucn.matching.scales import extract
from ucn.registry import is_own
from ucn.storage.files import as_json
from ucn.storage.stores import absolute_uri, open_store, publishing_folder
from ucn.training.config import NetworkConfig
from ucn.training.device import resolve_device
from ucn.training.networks import build_network
from ucn.training.networks.base import DenseNetwork
from ucn.training.networks.folded_norms import fold_norms
from ucn.training.networks.tiling import activation_bytes, describe_tiled

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
SHIPPED = "shipped"
"""Stands for the folder of the model that comes with the project."""
FORMAT = "ucn-model"
VERSION = 1


class ImageConfig(FrozenConfig):
    """What the network takes."""

    channels: int
    """1 grey, 3 RGB (grey images are taken three times)."""
    white: float = 1.0
    """Value of white; black is 0. Further normalisation is inside the network."""


class ModelConfig(FrozenConfig):
    """The content of a model's `config.json`."""

    format: str = FORMAT
    version: int = VERSION
    network: NetworkConfig
    stride: int
    """Cell j of the feature map lies at pixel j * stride + offset."""
    offset: float
    """See `stride`; pixels."""
    descriptor_dimension: int
    """Length of a descriptor."""
    image: ImageConfig
    training_data: str | None = None
    """SHA-256 of the manifest of the shards it was trained on; of several with commas between."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Configuration of the training run."""
    scores: dict[str, float] = Field(default_factory=dict)
    """Last training and validation metrics."""


@dataclass(frozen=True)
class Model:
    """A network ready to describe images.

    Attributes:
        config: as saved.
        network: in evaluation mode, its normalisation folded into its convolutions.
    """

    config: ModelConfig
    network: DenseNetwork

    @property
    def stride(self) -> int:
        """Cell j of the feature map lies at pixel ``j * stride + offset``."""
        return self.config.stride

    @property
    def offset(self) -> float:
        """See `stride`."""
        return self.config.offset

    def extract(
        self, image: NDArray[np.uint8], scales: int = 1, memory_mib: int = 2048
    ) -> Features:
        """Describes an image densely, once for all its matches.

        Args:
            image: uint8 [H, W] grey or [H, W, 3] RGB, any size.
            scales: number of image scales, half an octave apart, for large scale changes: 1, 3
                or 5.
            memory_mib: bound on the activations of a forward pass. Larger images are described in
                tiles, with the same result.
        """

        return extract(image, partial(self.describe_map, memory_mib=memory_mib), scales)

    def describe_map(self, image: NDArray[np.uint8], memory_mib: int = 2048) -> Dense:
        """Describes an image at its own scale: unit descriptors on the network's device."""
        map_DHW = describe_tiled(self.network, image, memory_mib, self._pixel_bytes)
        return Dense.of(map_DHW, self.stride, self.offset)

    @cached_property
    def _pixel_bytes(self) -> float:
        return activation_bytes(self.network)


def save_model(
    folder: Path | str,
    network: DenseNetwork,
    config: NetworkConfig,
    *,
    training_data: str | None = None,
    training: Mapping[str, Any] | None = None,
    scores: Mapping[str, float] | None = None,
) -> None:
    """Publish a model folder, local or in a store; replaces one that is there.

    A local folder is replaced by a rename; in a store ``config.json`` is uploaded last.

    Raises:
        UserError: it cannot be written, or the disk is full.
    """
    record = ModelConfig(
        network=config,
        stride=network.stride,
        offset=network.offset,
        descriptor_dimension=network.dimension,
        image=ImageConfig(channels=network.channels),
        training_data=training_data,
        training=dict(training or {}),
        scores=dict(scores or {}),
    )
    weights = {name: value.contiguous().cpu() for name, value in network.state_dict().items()}
    with publishing_folder(folder, marker=CONFIG) as temporary:
        # In one piece: safetensors' own writing hides what the disk says.
        (temporary / WEIGHTS).write_bytes(save(weights))
        (temporary / CONFIG).write_text(as_json(record.model_dump(mode="json")))


def load_model(folder: Path | str, device: str | torch.device = "cpu") -> Model:
    """Load a model; executes nothing of what is in it, and imports nothing that it names.

    Args:
        folder: a local folder, the URI of one in an object store, or `SHIPPED`.
        device: ``auto`` is the GPU if there is a usable one.

    Raises:
        UserError: the folder is no model, is damaged, or its network is of a module of the user
            that is not imported; or the device cannot be used.
    """
    config_json, weights = _read_files(folder)
    try:
        record = json.loads(config_json)
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise UserError(
                f"{folder}/{CONFIG}: not of a model; give a folder that `ucn train` made"
            )
        config = _read_config(f"{folder}/{CONFIG}", record)
        module = config.network.name.partition(":")[0]
        if is_own(config.network.name) and module not in sys.modules:
            raise UserError(
                f"{folder}: its network {config.network.name} is not imported; if you trust it, "
                f"import {module} first, in commands by --imports {module}"
            )
        network = _network_of(config.network, load(weights))
    except (ValueError, RuntimeError, OverflowError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder}: damaged model ({reason}); train or copy it again") from error
    network = network.to(resolve_device(device)).eval()
    fold_norms(network)
    return Model(config, network)


def model_place(folder: Path | str) -> str:
    """Absolute path or URI of a model's folder."""
    return str(files("ucn.models") / "small") if str(folder) == SHIPPED else absolute_uri(folder)


def model_digests(folder: Path | str) -> dict[str, str]:
    """sha256 of each file of a model, by name.

    Raises:
        UserError: a file is missing.
    """
    config_json, weights = _read_files(folder)
    return {
        name: hashlib.sha256(data).hexdigest()
        for name, data in ((CONFIG, config_json), (WEIGHTS, weights))
    }


def _read_files(folder: Path | str) -> tuple[bytes, bytes]:
    """The contents of ``config.json`` and ``model.safetensors``."""
    store = open_store(model_place(folder))
    contents = []
    for name in (CONFIG, WEIGHTS):
        try:
            contents.append(store.read(name))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(
                f"{folder}: no model ({name} is missing); give a folder that `ucn train` made"
            ) from error
        except OSError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{folder}: cannot be read ({reason}); check the place") from error
    return contents[0], contents[1]


def _network_of(config: NetworkConfig, weights: Mapping[str, Tensor]) -> DenseNetwork:
    """Build a network for its weights.

    Raises:
        ValueError: they are of another network. None larger than its weights is ever made.
    """
    with torch.device("meta"):
        expected = build_network(config.name, config.options).state_dict()
    for name in sorted(expected.keys() | weights.keys()):
        shapes = [list(one[name].shape) if name in one else None for one in (weights, expected)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{name} is {shapes[0]}, where its network has {shapes[1]}")
    network = build_network(config.name, config.options)
    network.load_state_dict(dict(weights))
    return network


def _read_config(path: str, record: dict[str, Any]) -> ModelConfig:
    try:
        return ModelConfig(**record)
    except UserError as error:
        raise UserError(f"{path}: {error}; train the model again") from None
