"""The sources by name."""

from preprocessing.config import (
    KittiRawConfig,
    MotorcycleConfig,
    PreprocessConfig,
    SyntheticConfig,
)
from preprocessing.sources.base import Source

CONFIGS: dict[str, type[PreprocessConfig]] = {
    "kitti-raw": KittiRawConfig,
    "synthetic": SyntheticConfig,
    "motorcycle": MotorcycleConfig,
}


def open_source(config: PreprocessConfig) -> Source:
    """The source that a configuration describes.

    Raises:
        UserError: the dataset is not there.
    """
    if isinstance(config, MotorcycleConfig):
        from preprocessing.sources.motorcycle import MotorcycleSource

        return MotorcycleSource(config)
    from preprocessing.sources.kitti_raw import KittiRawSource

    if isinstance(config, KittiRawConfig):
        return KittiRawSource(config, config.drives)
    if isinstance(config, SyntheticConfig):
        from preprocessing.sources.synthetic.job import world_specs

        return KittiRawSource(config, tuple(f"{spec.drive:04d}" for spec in world_specs(config)))
    raise TypeError(f"no source reads a {type(config).__name__}")
