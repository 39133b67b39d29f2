"""Fully convolutional networks, one a file, in the registry `ucn.training.registry.NETWORKS`."""

from collections.abc import Mapping
from inspect import signature

from ucn.errors import UserError
from ucn.training.config import Option
from ucn.training.networks.base import DenseNetwork
from ucn.training.registry import NETWORKS


def build_network(name: str, options: Mapping[str, Option]) -> DenseNetwork:
    """Build a network with random weights (from torch's generator).

    Raises:
        UserError: no such network, or an option or a value it does not have.
    """
    network = NETWORKS.load(name)
    known = list(signature(network).parameters)
    if unknown := [option for option in options if option not in known]:
        raise UserError(
            f"network.options: {name} has no option {unknown[0]}; there are {', '.join(known)}"
        )
    try:
        return network(**options)
    except (TypeError, ValueError, RuntimeError) as error:
        # Torch's may go on with its stack.
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"network.options: {dict(options)} do not fit network {name} ({reason}); change a value"
        ) from error
