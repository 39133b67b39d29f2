"""Options shared by the structure-from-motion sources."""

from abc import ABC

from pydantic import Field, model_validator

from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.sources.pairs_file import PairsFile


class SfmConfig(PreprocessConfig, ABC):
    """Options shared by the structure-from-motion sources."""

    min_matches: int = Field(100, ge=1)
    """Minimum number of matches of a pair; other pairs are left out."""
    undistort: bool = True
    """Undistort images to pinhole images. Otherwise, images with distortion have no K."""
    max_error: float = Field(2.0, gt=0)
    """Maximum reprojection error of a match in either image, pixels."""
    min_angle: float = Field(1.0, ge=0, le=180)
    """Minimum of the median triangulation angle of a pair, degrees."""
    max_angle: float = Field(60.0, ge=0, le=180)
    """Maximum of the median triangulation angle of a pair, degrees."""
    max_pairs_per_image: int = Field(0, ge=0)
    """Maximum number of pairs of an image, chosen at random by the seed; 0 takes all."""
    max_pairs: int = Field(0, ge=0)
    """Maximum number of pairs of a scene, chosen at random by the seed; 0 takes all."""

    pairs_file: PairsFile | None = None
    """List of pairs to take, two names a line; replaces the choice by tracks, angle and number."""

    @model_validator(mode="after")
    def _angles_in_order(self) -> "SfmConfig":
        if self.min_angle > self.max_angle:
            raise ValueError(
                f"min_angle {self.min_angle:g} is above max_angle {self.max_angle:g}; "
                "lower --min-angle or raise --max-angle"
            )
        return self
