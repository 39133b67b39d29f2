"""The networks, losses and miners by name. Each is imported on first use."""

from typing import TYPE_CHECKING

from ucn.registry import Registry

if TYPE_CHECKING:
    from ucn.training.losses import Loss
    from ucn.training.mining import Miner
    from ucn.training.networks.base import DenseNetwork

NETWORKS: "Registry[type[DenseNetwork]]" = Registry(
    "network",
    {
        "small": "ucn.training.networks.small:SmallUCN",
        "googlenet": "ucn.training.networks.googlenet:GoogLeNetUCN",
        "resunet": "ucn.training.networks.resunet:ResUNetUCN",
        "efficientnet": "ucn.training.networks.efficientnet:EfficientNetUCN",
    },
    "ucn.training.networks.base:DenseNetwork",
)
LOSSES: "Registry[Loss]" = Registry(
    "loss",
    {
        "contrastive": "ucn.training.losses.contrastive:contrastive_loss",
        "hardest_contrastive": "ucn.training.losses.hardest_contrastive:hardest_contrastive_loss",
        "triplet": "ucn.training.losses.triplet:triplet_loss",
        "infonce": "ucn.training.losses.infonce:infonce_loss",
        "dual_softmax": "ucn.training.losses.dual_softmax:dual_softmax_loss",
    },
)
OVER_ALL = frozenset({"infonce", "dual_softmax"})
"""Losses over all wrong positions, which read no mined negative."""
MINERS: "Registry[Miner]" = Registry(
    "miner",
    {
        "hard": "ucn.training.mining.hard:mine_hard",
        "nearest": "ucn.training.mining.nearest:mine_nearest",
        "random": "ucn.training.mining.random:mine_random",
    },
)
