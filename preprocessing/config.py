"""Configuration of preprocessing. Light to import: the command line's help needs it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from ucn.config import FrozenConfig
from ucn.errors import UserError

if TYPE_CHECKING:
    from ucn.preprocessing.sources.base import Source

ImageFormat = Literal["grey-png", "rgb-png", "rgb-jpeg"]


# What changes where and how fast the shards are made, but not what is in them.
_NOT_CONTENT = {"root", "out", "workers", "overwrite"}


class PreprocessConfig(FrozenConfig, ABC):
    """Options that every source has; each source adds its own in a class beside it."""

    source: str
    """Name of the source."""
    out: str
    """Folder or URI for the shards."""
    split: str = Field("train", pattern=r"^[a-z0-9_]+$")
    """Name of the split: shards are called SPLIT-000000.tar."""
    images: ImageFormat = "grey-png"
    """How images are stored; JPEG is of quality 95 with full colour resolution."""
    min_matches: int = Field(200, ge=1)
    """Pairs with fewer correspondences are skipped."""
    max_matches: int = Field(0, ge=0)
    """Most correspondences of a pair, a seeded sample spread over the image; 0 keeps all."""
    seed: int = Field(0, ge=0)
    """Seed of that sample."""
    pairs_per_shard: int = Field(50, ge=1)
    """Image pairs a tar; the last tar holds the rest."""
    workers: int | None = Field(None, ge=0)
    """Shards made at once; default one a CPU of the machine or cluster; 0 works without Ray."""
    overwrite: bool = False
    """Replace shards of another configuration in the output folder."""

    @abstractmethod
    def open_source(self) -> "Source":
        """The source that these options describe.

        Raises:
            UserError: the dataset is not there.
        """

    def prepare(self) -> None:
        """Make what the source reads, where that is made on the spot.

        Raises:
            UserError: it cannot be made.
        """

    def content(self) -> dict[str, Any]:
        """All options that decide what the shards hold, JSON-serialisable."""
        return self.model_dump(mode="json", exclude=_NOT_CONTENT)

    def content_identity(self) -> dict[str, Any]:
        """The source, and the options of `content` that are not at their defaults.

        Fingerprints are made of it, so that a new option refuses nothing that is finished.
        """
        return self.identity(exclude=_NOT_CONTENT) | {"source": self.source}

    def differences(self, stored: Mapping[str, Any]) -> list[str]:
        """Names of the options that differ from those of a stored `content`.

        It may be of an earlier version: old names are read, and absent options have their defaults.
        """
        mine = self.content()
        elsewhere = {name: value for name, value in self if name in _NOT_CONTENT}
        try:
            theirs = type(self)(**elsewhere | dict(stored)).content()
        except UserError:
            # Options that this version does not know.
            theirs = dict(stored)
        return sorted(
            name for name in theirs.keys() | mine.keys() if theirs.get(name) != mine.get(name)
        )

    @model_validator(mode="after")
    def _matches_in_order(self) -> "PreprocessConfig":
        if 0 < self.max_matches < self.min_matches:
            raise ValueError(
                f"max_matches {self.max_matches} is below min_matches {self.min_matches}; "
                "raise --max-matches or lower --min-matches"
            )
        return self
