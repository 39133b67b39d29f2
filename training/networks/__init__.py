"""Fully convolutional networks, one a file, built by name."""

from collections.abc import Callable, Mapping

from ucn.errors import UserError
from ucn.training.config import Option
from ucn.training.networks.base import DenseNetwork
from ucn.training.networks.googlenet import GoogLeNetUCN
from ucn.training.networks.resunet import ResUNetUCN
from ucn.training.networks.small import SmallUCN

NETWORKS: dict[str, Callable[..., DenseNetwork]] = {
    "small": SmallUCN,
    "googlenet": GoogLeNetUCN,
    "resunet": ResUNetUCN,
}


def build_network(name: str, options: Mapping[str, Option]) -> DenseNetwork:
    """Build a network with random weights (from torch's generator).

    Raises:
        UserError: no such network, or an option or a value it does not have.
    """
    if name not in NETWORKS:
        raise UserError(f"network.name: no network {name!r}; choose from {', '.join(NETWORKS)}")
    try:
        return NETWORKS[name](**options)
    except (TypeError, ValueError, RuntimeError) as error:
        # Torch's may go on with its stack.
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"network.options: {dict(options)} do not fit network {name!r} ({reason}); see "
            f"ucn.training.networks.{name} for its options"
        ) from error
