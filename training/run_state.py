"""The state of a training in its output folder: what identifies it, and how far it is.

``OUTPUT/training.json`` tells whose training the folder holds and whether it is finished; partial
work is in ``OUTPUT/checkpoints``, and the finished model in ``OUTPUT/model``.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from ucn.errors import UserError
from ucn.storage.arrow import delete_entries
from ucn.storage.files import as_json
from ucn.storage.stores import open_store, write_bytes
from ucn.training.config import NOT_CONTENT, TrainConfig

STATE_FILE = "training.json"
MODEL = "model"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class RunState:
    """The content of `training.json`.

    Attributes:
        fingerprint: of the configuration and the data.
        status: of the training.
        run_id: in MLflow.
    """

    fingerprint: str
    status: Literal["NEW", "RUNNING", "FINISHED"] = "NEW"
    run_id: str | None = None


def read_run_state(output: str) -> RunState | None:
    """Read the state of an output folder; None where no training has begun.

    Raises:
        UserError: the file is damaged, or the folder is a file.
    """
    try:
        return RunState(**json.loads(open_store(output).read(STATE_FILE)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{output}/{STATE_FILE}: damaged; remove the folder, or choose another output"
        ) from error


def open_run_state(output: str, fingerprints: Sequence[str], *, overwrite: bool) -> RunState:
    """Read how far the training in a folder is; with ``overwrite``, discard another training.

    Only the driver that holds the folder's lock may call this.

    Args:
        output: the folder or URI.
        fingerprints: of the training that is wanted, see :func:`fingerprints`.
        overwrite: remove state, model and checkpoints of another training.

    Raises:
        UserError: the folder holds another training, or is a file.
    """
    state = read_run_state(output)
    if state is None:
        return RunState(fingerprints[0])
    if state.fingerprint in fingerprints:
        return state
    if not overwrite:
        raise UserError(
            f"{output}: holds the training of another configuration or other shards; choose "
            "another output, or set overwrite=true"
        )
    open_store(output).delete(STATE_FILE)
    delete_entries(output, (MODEL, CHECKPOINTS))
    return RunState(fingerprints[0])


def write_run_state(output: str, state: RunState) -> None:
    """Publish the state of an output folder."""
    write_bytes(open_store(output), STATE_FILE, as_json(asdict(state)).encode())


def fingerprints(config: TrainConfig, digests: Sequence[str | None]) -> list[str]:
    """Fingerprints that identify a training: the current one, then those of earlier versions.

    Args:
        config: the training.
        digests: of all inputs, as `TrainConfig.fingerprint` takes them.
    """
    # Version 0.1.0 had the global order only.
    earlier = None if config.data.window_bytes else _fingerprint_0_1_0(config, digests)
    return [config.fingerprint(*digests), *([earlier] if earlier else [])]


# The options that version 0.1.0 had and digested.
# fmt: off
_GROUPS_0_1_0 = {
    "data": {"weights", "validation_pairs", "validation_points"},
    "network": {"name", "options"},
    "loss": {"name", "margin", "positive_margin", "negative_margin", "temperature"},
    "mining": {"name", "radius", "search_stride", "cross_pair_negatives"},
    "augmentation": {
        "crop_width", "crop_height", "shift", "mirror", "scale", "rotation", "brightness",
        "contrast", "gamma", "noise", "blur",
    },
    "optimiser": {"name", "learning_rate", "weight_decay", "momentum", "clip_norm"},
    "schedule": {"warmup_steps", "final_fraction", "ema_decay"},
}
_OPTIONS_0_1_0 = {
    "steps", "batch_size", "group_size", "points", "min_matches", "seed", "bfloat16",
    "compile", "validate_every", "best_by",
}
# fmt: on


def _fingerprint_0_1_0(config: TrainConfig, digests: Sequence[str | None]) -> str | None:
    """The fingerprint that version 0.1.0 stored for a configuration; None if it had none.

    It digested all options, under their former names, also those at their defaults. Options that
    were added since are left out at their default; 0.1.0 cannot have trained with another value.
    """
    known = {f"{group}.{name}" for group, names in _GROUPS_0_1_0.items() for name in names}
    if config.identity(exclude=NOT_CONTENT | known | _OPTIONS_0_1_0):
        return None
    options = config.model_dump(
        mode="json", include={**_GROUPS_0_1_0, **dict.fromkeys(_OPTIONS_0_1_0, True)}
    )
    mining, schedule = options["mining"], options["schedule"]
    mining["every"] = mining.pop("search_stride")
    mining["pool"] = "group" if mining.pop("cross_pair_negatives") else "pair"
    schedule["average"] = schedule.pop("ema_decay")
    options["group_size"] = config.pairs_in_group
    # Its default was true.
    options["bfloat16"] = config.bfloat16 is not False
    text = json.dumps([options, *digests], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
