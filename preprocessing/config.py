"""What a preprocessing run is made from. Light to import: the command line's help needs it."""

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from preprocessing.errors import UserError
from preprocessing.uris import shown

if TYPE_CHECKING:
    from preprocessing.sources.base import Source

ImageFormat = Literal["grey-png", "rgb-png", "rgb-jpeg"]

# s3://BUCKET/FOLDER, also where it has passed through a path.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")

# What changes where and how fast the shards are made, but not what is in them.
_NOT_CONTENT = {"root", "out", "workers", "overwrite"}


class Part(BaseModel):
    """A frozen piece of configuration that refuses unknown fields.

    Raises:
        UserError: a value does not fit; one line that names the field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UserError(explain(error)) from None

    @model_validator(mode="after")
    def _paths_are_local(self) -> Self:
        """An address that became a path would name a folder ``s3:`` of this machine."""
        for name, value in self:
            if isinstance(value, Path) and _ADDRESS.match(str(value)):
                raise ValueError(
                    f"{name}: {shown(str(value).replace(':/', '://', 1))} is an address; give a "
                    "folder that this machine, or every node of the cluster, sees"
                )
        return self


def explain(error: ValidationError) -> str:
    """The first thing that pydantic refuses, in one line."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "no such option; see --help for the names"
    return f"{place}: {message}" if place else message


class PreprocessConfig(Part, ABC):
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
        """The options that decide what the shards hold, JSON-serialisable."""
        return self.model_dump(mode="json", exclude=_NOT_CONTENT)

    @model_validator(mode="after")
    def _matches_in_order(self) -> "PreprocessConfig":
        if 0 < self.max_matches < self.min_matches:
            raise ValueError(
                f"max_matches {self.max_matches} is below min_matches {self.min_matches}; "
                "raise --max-matches or lower --min-matches"
            )
        return self
