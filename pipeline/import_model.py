"""`ucn import`: a published checkpoint becomes a model folder."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from ucn.config import FrozenConfig
from ucn.errors import UserError
from ucn.pipeline.arguments import parse

_NETWORKS = {
    "open-ucn": "resunet",
    "torchvision-googlenet": "googlenet",
    "efficientnet-lite0": "efficientnet",
}


class ImportArguments(FrozenConfig):
    """Arguments of `ucn import`."""

    publisher: tyro.conf.Positional[
        Literal["open-ucn", "torchvision-googlenet", "efficientnet-lite0"]
    ]
    """Origin of the checkpoint."""
    file: tyro.conf.Positional[Path]
    """Checkpoint: .pth, .pt or .safetensors."""
    out: Path
    """Model folder to write."""


def import_model(args: Sequence[str]) -> int:
    """`ucn import PUBLISHER FILE --out DIR`

    Raises:
        UserError: the file is missing, damaged, or of another network, or the folder exists.
    """
    arguments = parse(
        ImportArguments, args, "ucn import", "Make a model folder of a published checkpoint."
    )
    from ucn.storage.files import file_sha256
    from ucn.training.config import NetworkConfig
    from ucn.training.model import save_model
    from ucn.training.networks import build_network
    from ucn.training.networks.published_weights import published_file, read_published
    from ucn.training.registry import NETWORKS

    file, out = published_file(arguments.file), arguments.out
    if out.exists():
        raise UserError(f"{out}: exists; give another --out")
    name = _NETWORKS[arguments.publisher]
    state = read_published(file)
    try:
        config = NetworkConfig(name=name, options=NETWORKS.load(name).published_options(state))
        network = build_network(name, config.options)
        network.load_published(state)
    except ValueError as error:
        raise UserError(
            f"{file}: no checkpoint of {arguments.publisher} ({error}); give another file"
        ) from error
    origin = {"imported": arguments.publisher, "file": file.name, "sha256": file_sha256(file)}
    save_model(out, network, config, training=origin)
    printed = {"model": str(out), "descriptor_dimension": network.dimension}
    sys.stdout.write(json.dumps(printed | config.model_dump(include={"name", "options"})) + "\n")
    return 0
