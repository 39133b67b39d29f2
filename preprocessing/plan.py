"""Which pairs go into which shard: decided by the inputs and options alone."""

from dataclasses import dataclass

from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.shards.format import digest, shard_name
from ucn.preprocessing.sources.base import PairRef, Source


@dataclass(frozen=True)
class ShardPlan:
    """One shard to make.

    Attributes:
        name: file name of the tar.
        pairs: candidates in order.
        fingerprint: digest of the configuration and of the pairs' input files.
    """

    name: str
    pairs: tuple[PairRef, ...]
    fingerprint: str


def plan_shards(source: Source, config: PreprocessConfig) -> list[ShardPlan]:
    """Cut the source's pairs into shards of ``config.pairs_per_shard``.

    Raises:
        UserError: the source has no pairs.
    """
    pairs = source.pairs()
    content = config.content()
    plans = []
    for index, start in enumerate(range(0, len(pairs), config.pairs_per_shard)):
        chunk = tuple(pairs[start : start + config.pairs_per_shard])
        inputs = [[source.key(pair), source.input_fingerprint(pair)] for pair in chunk]
        plans.append(
            ShardPlan(
                name=shard_name(config.split, index),
                pairs=chunk,
                fingerprint=digest([content, inputs]),
            )
        )
    return plans
