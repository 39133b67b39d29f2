"""Options for matching photos. Fast to import, since the command line's help needs it."""

from typing import Literal

from pydantic import Field

from ucn.config import FrozenConfig
from ucn.evaluation.config import Scales

StartingPoints = Literal["corners", "sift", "fast", "grid"]


class MatchOptions(FrozenConfig):
    """Starting points of the matching, and filters of the matches."""

    keypoints_from: StartingPoints = "corners"
    """Starting points in the first photo: Shi-Tomasi corners, SIFT or FAST keypoints, or a grid."""
    keypoints: int = Field(2000, ge=1)
    """Maximum number of starting points."""
    grid: int = Field(0, ge=0)
    """Grid spacing for dense matching, pixels; overrides `keypoints_from`. 0 disables it."""
    reciprocity_px: float = Field(4.0, ge=0)
    """Maximum forward-backward error of a match, pixels. 0 disables the filter."""
    stability_px: float = Field(0.0, ge=0)
    """Like `reciprocity_px`, but after shifting the match by a pixel. 0 disables the filter."""
    ratio: float = Field(1.0, gt=0, le=1)
    """Maximum ratio of the best to the second-best descriptor distance. 1 disables the filter."""
    min_similarity: float = Field(-1.0, ge=-1, le=1)
    """Minimum cosine similarity of the descriptors. -1 disables the filter."""
    merge_px: float = Field(1.0, ge=0)
    """Maximum distance of a point from a keypoint of another pair that it becomes in .h5 and .db
    files, pixels. Pairs share keypoints then, which tracks need. 0 merges equal points only."""
    scales: Scales = 1
    """Number of image scales, half an octave apart, for large scale changes. 1 is fastest."""
    seed: int = Field(0, ge=0)
    """Random seed for the shifts of `stability_px`."""
