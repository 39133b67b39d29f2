"""The interface of a source, the one part that knows a dataset."""

from typing import Any, NamedTuple, Protocol

from ucn.preprocessing.sample import Sample


class PairRef(NamedTuple):
    """A candidate image pair: cheap and picklable.

    ``(sequence, frame)`` names one image over the whole dataset.
    """

    sequence: str
    frame0: str
    frame1: str


class Source(Protocol):
    """Lists the candidate pairs of a dataset and turns one into a sample.

    One instance serves the pairs of one shard, in the order of :meth:`pairs`; it may keep the
    frames it has decoded.
    """

    def pairs(self) -> list[PairRef]:
        """All candidates, in an order that depends on the dataset alone.

        Raises:
            UserError: the dataset is not there or lacks what every pair needs.
        """
        ...

    def key(self, pair: PairRef) -> str:
        """Key of the pair's sample: unique, readable, without dots and slashes."""
        ...

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        """Identifies the pair's input files, such as by names and sizes; JSON-serialisable."""
        ...

    def load(self, pair: PairRef) -> Sample:
        """Make the sample.

        Raises:
            SkippedPair: this pair gives none.
            UserError: the dataset lacks what every pair needs.
        """
        ...
