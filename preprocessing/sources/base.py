"""Interface of a source, the reader of one dataset."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ucn.preprocessing.sample import Sample


class PairRef(NamedTuple):
    """A candidate image pair: cheap and picklable.

    ``(sequence, frame)`` identifies an image in the whole dataset.
    """

    sequence: str
    frame0: str
    frame1: str


class PairReader(Protocol):
    """Turns pairs into samples. It may cache decoded frames."""

    def key(self, pair: PairRef) -> str:
        """Key of the pair's sample: unique, readable, without dots and slashes."""
        ...

    def load(self, pair: PairRef) -> Sample:
        """Make the sample of a pair.

        Raises:
            SkippedPair: the pair gives no sample.
            UserError: the dataset lacks files that every pair needs.
        """
        ...


class Source(PairReader, Protocol):
    """Lists the candidate pairs of a dataset and turns one into a sample.

    The pairs of one shard are loaded in the order of :meth:`pairs`.
    """

    def pairs(self) -> list[PairRef]:
        """All candidate pairs, in an order that depends only on the dataset.

        Raises:
            UserError: the dataset is missing, or lacks files that every pair needs.
        """
        ...

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        """Identifies the pair's input files, for example by names and sizes. JSON-serialisable."""
        ...


@runtime_checkable
class CompiledSource(Source, Protocol):
    """A source that reads models, listings and calibrations once, in the driver of the job.

    A source without :meth:`reader` is opened again by each task.
    """

    def reader(self, pairs: Sequence[PairRef]) -> PairReader:
        """What a task needs to load these pairs. Picklable.

        The reader reads only images, scans and depth maps. It holds everything else that these
        pairs need, and nothing of other pairs.
        """
        ...
