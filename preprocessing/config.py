"""Configuration of preprocessing. Fast to import, since the command line's help needs it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from ucn.config import FrozenConfig
from ucn.errors import UserError

if TYPE_CHECKING:
    from ucn.preprocessing.sources.base import Source

ImageFormat = Literal["grey-png", "rgb-png", "rgb-jpeg"]


# Options that do not affect the content of the shards.
_NOT_CONTENT = {"root", "out", "workers", "overwrite"}


class PreprocessConfig(FrozenConfig, ABC):
    """Options common to all sources. Each source adds its own in a subclass."""

    source: str
    """Name of the source."""
    out: str
    """Output folder or URI."""
    split: str = Field("train", pattern=r"^[a-z0-9_]+$")
    """Name of the split. Shards are named SPLIT-000000.tar."""
    images: ImageFormat = "grey-png"
    """Format of the stored images. JPEG uses quality 95 without chroma subsampling."""
    min_matches: int = Field(200, ge=1)
    """Minimum number of correspondences of a pair. Pairs with fewer are skipped."""
    max_matches: int = Field(0, ge=0)
    """Maximum number of correspondences of a pair, spread over the image. 0 keeps all."""
    seed: int = Field(0, ge=0)
    """Random seed for `max_matches`."""
    pairs_per_shard: int = Field(50, ge=1)
    """Number of image pairs per tar."""
    workers: int | None = Field(None, ge=0)
    """Number of shards made in parallel. Default: one per CPU. 0 runs without Ray."""
    overwrite: bool = False
    """Replace shards of another configuration in the output folder."""

    @abstractmethod
    def open_source(self) -> "Source":
        """Opens the source that these options describe.

        Raises:
            UserError: the dataset does not exist.
        """

    def prepare(self) -> None:
        """Generates the source's input files, for sources that generate them.

        Raises:
            UserError: the files cannot be generated.
        """

    def content(self) -> dict[str, Any]:
        """Options that determine the content of the shards, JSON-serialisable."""
        return self.model_dump(mode="json", exclude=_NOT_CONTENT)

    def content_identity(self) -> dict[str, Any]:
        """The source, and the options of `content` that differ from their defaults.

        Fingerprints use this, so finished shards stay valid when an option is added.
        """
        return self.identity(exclude=_NOT_CONTENT) | {"source": self.source}

    def differences(self, stored: Mapping[str, Any]) -> list[str]:
        """Names of the options that differ from a stored `content`.

        The stored options may be of an earlier version: old names are accepted, and missing options
        get their defaults.
        """
        mine = self.content()
        elsewhere = {name: value for name, value in self if name in _NOT_CONTENT}
        try:
            theirs = type(self)(**elsewhere | dict(stored)).content()
        except UserError:
            # The stored configuration has options that are unknown to this version.
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
