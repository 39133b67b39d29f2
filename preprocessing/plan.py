"""The plan of the shards. It depends only on the inputs and options."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.shards.format import digest, shard_name
from ucn.preprocessing.sources.base import PairRef, Source


@dataclass(frozen=True)
class ShardPlan:
    """One shard to make.

    Attributes:
        name: file name of the tar.
        pairs: candidate pairs in order.
        fingerprint: digest of the configuration and of the pairs' input files.
        earlier: fingerprint as computed by version 0.1.0, which included options at defaults; None
            if there are no shards to compare with.
    """

    name: str
    pairs: tuple[PairRef, ...]
    fingerprint: str
    earlier: str | None

    def is_fingerprint(self, stored: str) -> bool:
        """Whether a stored fingerprint, of this or an earlier version, matches this shard."""
        return stored in (self.fingerprint, self.earlier)


def plan_shards(
    source: Source, config: PreprocessConfig, content: Mapping[str, Any] | None = None
) -> list[ShardPlan]:
    """Splits the source's pairs into shards of ``config.pairs_per_shard``.

    Args:
        source: source of the pairs.
        config: configuration of the dataset.
        content: ``config.content()`` of the existing shards; None if there are none.

    Raises:
        UserError: the source has no pairs.
    """
    pairs = source.pairs()
    identity = config.content_identity()
    plans = []
    for index, start in enumerate(range(0, len(pairs), config.pairs_per_shard)):
        chunk = tuple(pairs[start : start + config.pairs_per_shard])
        inputs = [[source.key(pair), source.input_fingerprint(pair)] for pair in chunk]
        plans.append(
            ShardPlan(
                name=shard_name(config.split, index),
                pairs=chunk,
                fingerprint=digest([identity, inputs]),
                earlier=None if content is None else digest([content, inputs]),
            )
        )
    return plans
