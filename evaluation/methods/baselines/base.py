"""Interfaces of a baseline. Fast to import, since the command line's help needs it.

A baseline is a configuration: its fields are its options. Its kind says what it does: it
describes points or whole images, it matches points, or it matches keypoints of its own.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from ucn.config import FrozenConfig

if TYPE_CHECKING:
    from ucn.matching.descriptors import Floats, Pixels
    from ucn.matching.features import Dense


class Baseline(FrozenConfig, ABC):
    """A method to compare with. Weights are loaded in `model_post_init`."""

    title: ClassVar[str] = ""
    """Name in tables and figures; empty for the name of the class."""

    @classmethod
    def unavailable(cls) -> str:
        """The reason why this installation cannot run it, in one line; empty if it can."""
        return ""


class PointDescriber(Baseline):
    """Describes points; the nearest descriptor is the match."""

    @abstractmethod
    def describe(self, image: "Pixels", points_N2: "Floats") -> "Floats":
        """Describes points of an image; see :data:`ucn.matching.descriptors.Describe`."""


class DenseDescriber(Baseline):
    """Describes an image densely, such as a network; the nearest descriptor is the match."""

    @abstractmethod
    def describe_map(self, image: "Pixels") -> "Dense":
        """Describes an image; see :data:`ucn.matching.scales.DescribeMap`."""


class PointMatcher(Baseline):
    """Matches points without descriptors, such as optical flow."""

    @abstractmethod
    def match(self, image0: "Pixels", image1: "Pixels", points0_N2: "Floats") -> "Floats":
        """Matches points of image 0; see :data:`ucn.matching.descriptors.Match`."""


class KeypointMatcher(Baseline):
    """Matches points that it chooses itself."""

    @abstractmethod
    def match_pair(self, image0: "Pixels", image1: "Pixels") -> "Floats":
        """Matches two images, uint8 [H, W] or [H, W, 3] RGB.

        Returns:
            float32 [K, 4], pixels x0, y0, x1, y1. No two rows have the same x0, y0.
        """
