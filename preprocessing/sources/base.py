"""Interface of a source, the reader of one dataset."""

from typing import Any, NamedTuple, Protocol

from ucn.preprocessing.sample import Sample


class PairRef(NamedTuple):
    """A candidate image pair: cheap and picklable.

    ``(sequence, frame)`` identifies an image in the whole dataset.
    """

    sequence: str
    frame0: str
    frame1: str


class Source(Protocol):
    """Lists the candidate pairs of a dataset and turns one into a sample.

    One instance loads the pairs of one shard, in the order of :meth:`pairs`. It may cache decoded
    frames.
    """

    def pairs(self) -> list[PairRef]:
        """All candidate pairs, in an order that depends only on the dataset.

        Raises:
            UserError: the dataset is missing, or lacks files that every pair needs.
        """
        ...

    def key(self, pair: PairRef) -> str:
        """Key of the pair's sample: unique, readable, without dots and slashes."""
        ...

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        """Identifies the pair's input files, for example by names and sizes. JSON-serialisable."""
        ...

    def load(self, pair: PairRef) -> Sample:
        """Make the sample of a pair.

        Raises:
            SkippedPair: the pair gives no sample.
            UserError: the dataset lacks files that every pair needs.
        """
        ...
