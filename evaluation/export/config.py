"""How two photos are matched; light, so that the command line starts at once."""

from typing import Literal

from pydantic import Field

from ucn.config import FrozenConfig
from ucn.evaluation.config import Scales

StartingPoints = Literal["corners", "sift", "fast", "grid"]


class MatchOptions(FrozenConfig):
    """Where matching starts, and which matches are kept."""

    keypoints_from: StartingPoints = "corners"
    """Starting points in the first photo: corners (Shi-Tomasi), SIFT's or FAST's keypoints, or an
    even grid."""
    keypoints: int = Field(2000, ge=1)
    """At most so many starting points."""
    grid: int = Field(0, ge=0)
    """Start from every so many pixels instead, in x and in y: dense matching; 0 is off."""
    reciprocity_px: float = Field(4.0, ge=0)
    """Keep matches whose search back lands within so many pixels of its start; 0 keeps all."""
    stability_px: float = Field(0.0, ge=0)
    """Keep matches that, moved by a pixel, are still found back within so many; 0 keeps all."""
    ratio: float = Field(1.0, gt=0, le=1)
    """Keep matches whose descriptor distance is less than so much of the second best's, which
    lies more than 8 px from the best; 1 keeps all."""
    min_similarity: float = Field(-1.0, ge=-1, le=1)
    """Keep matches whose descriptors have at least this cosine; -1 keeps all."""
    scales: Scales = 1
    """Describe each photo at so many sizes, half an octave apart around its own, and compare at all
    relative scales: slower, and far better where things grow or shrink. 1: as they are."""
    seed: int = Field(0, ge=0)
    """Draws the moves of `stability_px`."""
