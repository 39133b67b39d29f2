"""What a preprocessing run is made from. Light to import: the command line's help needs it."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from preprocessing.errors import UserError

ImageFormat = Literal["grey-png", "rgb-png", "rgb-jpeg"]

_Positive = Annotated[int, Field(ge=1)]

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


def explain(error: ValidationError) -> str:
    """The first thing that pydantic refuses, in one line."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "no such option; see --help for the names"
    return f"{place}: {message}" if place else message


class PreprocessConfig(Part):
    """Options that every source has."""

    source: str
    """Name of the source."""
    out: str
    """Folder for the shards."""
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


class DriveConfig(PreprocessConfig):
    """Options of drives in KITTI raw's layout."""

    root: str
    """Folder that holds KITTI's days, `DATE/DATE_drive_NNNN_sync`."""
    camera: Literal[0, 1, 2, 3] = 2
    """Camera: 0 and 1 are grey, 2 and 3 in colour; even ones are left."""
    gaps: tuple[_Positive, ...] = (1, 2, 5)
    """Distances between the frames of a pair."""

    @field_validator("gaps")
    @classmethod
    def _gaps_in_order(cls, gaps: tuple[int, ...]) -> tuple[int, ...]:
        if not gaps:
            raise ValueError("name at least one frame distance, such as --gaps 1")
        return tuple(sorted(set(gaps)))


class KittiRawConfig(DriveConfig):
    """KITTI raw data, synced and rectified: Velodyne points projected into successive frames."""

    source: Literal["kitti-raw"] = "kitti-raw"
    drives: tuple[str, ...] = ()
    """Drives such as 0052 or 2011_09_26_drive_0052; default all that are found."""


class SyntheticConfig(DriveConfig):
    """Worlds made on the spot in KITTI raw's layout under --root, then read as KITTI raw is."""

    source: Literal["synthetic"] = "synthetic"
    worlds: int = Field(2, ge=1, le=1000)
    """Number of drives, each through another world."""
    frames: int = Field(40, ge=2, le=100_000)
    """Frames a drive."""
    first_world: int = Field(1, ge=0, le=9000)
    """Seed and drive number of the first world; worlds of other numbers are other worlds."""
    textures: Literal["train", "heldout"] = "train"
    """Which of two disjoint sets of textures covers the worlds."""
    width: int = Field(1242, ge=64, le=4096)
    """Width of the images in pixels; the height follows KITTI's aspect ratio."""


class MotorcycleConfig(PreprocessConfig):
    """The real Motorcycle stereo pair that scikit-image carries, with its true disparity."""

    source: Literal["motorcycle"] = "motorcycle"
