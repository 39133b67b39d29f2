"""Configuration of a synthetic drive. It determines every byte of the drive."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

TextureSplit = Literal["train", "heldout", "all"]


class WorldSpec(BaseModel):
    """One synthetic drive in KITTI raw's layout. Equal specs give equal bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0)
    """Seed of the layout, the textures, the lighting and the noise."""
    drive: int = Field(1, ge=0, le=9999)
    """Number of the drive in the folder name."""
    date: str = Field("2011_09_26", pattern=r"^\d{4}_\d{2}_\d{2}$")
    """Recording day; determines the folder and the calibration."""
    frames: int = Field(40, ge=1)
    """Number of frames, at 10 Hz."""
    width: int = Field(1242, ge=16)
    """Image width in pixels; the intrinsics scale with it."""
    height: int = Field(375, ge=16)
    """Image height in pixels; heights other than KITTI's aspect ratio crop or extend the view."""
    cameras: tuple[Literal[0, 1, 2, 3], ...] = (2,)
    """Cameras written: 0 and 1 grey, 2 and 3 colour."""
    speed: float = Field(0.8, ge=0, le=3)
    """Mean distance driven between frames, metres."""
    turn: float = Field(1.0, ge=0, le=2)
    """Curvature of the road: 0 straight, 1 as in a city, with radii of at least about 50 m."""
    stop: tuple[int, int] | None = None
    """First and last frame of a stop of the car."""
    movers: int = Field(5, ge=0, le=30)
    """Number of moving vehicles."""
    parked: float = Field(0.35, ge=0, le=1)
    """Fraction of the parking spaces that are occupied."""
    textures: TextureSplit = "train"
    """Photographs used as textures; ``train`` and ``heldout`` are disjoint."""
    photometric: float = Field(1.0, ge=0, le=2)
    """Strength of noise, blur, exposure drift and vignetting; 0 gives an ideal camera."""
    scan_degrees: float = Field(360.0, gt=0, le=360)
    """Azimuth range of the LiDAR, centred on straight ahead, degrees."""
    range_noise: float = Field(0.015, ge=0, le=0.5)
    """Standard deviation of the LiDAR's range noise, metres."""
    max_range: float = Field(100.0, gt=1, le=120)
    """Maximum range of the LiDAR, metres."""
    dropout: float = Field(0.04, ge=0, le=1)
    """Fraction of LiDAR returns lost on bright, perpendicular surfaces; others lose more."""
    truth: bool = True
    """Write exact depth, instances and poses in addition to the drive."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.stop is not None and not 0 <= self.stop[0] <= self.stop[1]:
            raise ValueError("stop: the first frame must not come after the last")
        if len(set(self.cameras)) != len(self.cameras) or not self.cameras:
            raise ValueError("cameras: at least one, each once")
        return self

    @property
    def drive_name(self) -> str:
        """Name of the drive's folder, such as ``2011_09_26_drive_0001_sync``."""
        return f"{self.date}_drive_{self.drive:04d}_sync"
