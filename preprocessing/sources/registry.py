"""The sources by name."""

from collections.abc import Callable
from typing import Any

from preprocessing.config import KittiRawConfig, PreprocessConfig, SyntheticConfig
from preprocessing.sources.base import Source


def open_source(config: PreprocessConfig) -> Source:
    """The source that a configuration describes.

    Raises:
        UserError: the dataset is not there.
    """
    from preprocessing.sources.kitti_raw import KittiRawSource

    sources: dict[type[PreprocessConfig], Callable[[Any], Source]] = {
        KittiRawConfig: KittiRawSource,
        SyntheticConfig: KittiRawSource,
    }
    return sources[type(config)](config)
