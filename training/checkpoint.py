"""The state of a training run on disk. Random generators are derived from the step, not stored."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from preprocessing.errors import UserError
from preprocessing.storage import atomic_path

STATE = "state.pt"


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: steps done; the next one has this number.
        seed: of the run.
        metrics: last values reported, by name.
    """

    step: int
    seed: int
    metrics: dict[str, float]


def save_checkpoint(
    folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress
) -> None:
    """Write the weights, the optimiser and the progress into ``folder``, atomically."""
    state = {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": progress.step,
        "seed": progress.seed,
        "metrics": progress.metrics,
    }
    with atomic_path(folder / STATE) as path:
        torch.save(state, path)


def load_checkpoint(
    folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer | None = None
) -> Progress:
    """Put a checkpoint's weights and optimiser state in place.

    Raises:
        UserError: there is no readable checkpoint, or it is of another network.
    """
    path = folder / STATE
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state["network"])
        if optimiser is not None:
            optimiser.load_state_dict(state["optimiser"])
        return Progress(state["step"], state["seed"], state["metrics"])
    except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: cannot be resumed from ({reason}); start over with overwrite=true"
        ) from error
