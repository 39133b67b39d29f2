"""The sources by name; what a name stands for is imported when it is asked for."""

import importlib
import os
import sys

from ucn.errors import UserError
from ucn.preprocessing.config import PreprocessConfig

_HERE = "ucn.preprocessing.sources"

SOURCES = {
    "kitti-raw": f"{_HERE}.kitti.raw:KittiRawConfig",
    "kitti-odometry": f"{_HERE}.kitti.odometry:KittiOdometryConfig",
    "kitti-flow": f"{_HERE}.flow.kitti:KittiFlowConfig",
    "sintel": f"{_HERE}.flow.sintel:SintelConfig",
    "flow-folder": f"{_HERE}.flow.folder:FlowFolderConfig",
    "yfcc": f"{_HERE}.yfcc.source:YfccConfig",
    "colmap": f"{_HERE}.sfm.colmap:ColmapConfig",
    "bundler": f"{_HERE}.sfm.bundler:BundlerConfig",
    "homography": f"{_HERE}.photos.homography:HomographyConfig",
    "hpatches": f"{_HERE}.planar.hpatches:HPatchesConfig",
    "oxford-affine": f"{_HERE}.planar.oxford_affine:OxfordAffineConfig",
    "pascal": f"{_HERE}.keypoints.pascal:PascalConfig",
    "cub": f"{_HERE}.keypoints.cub:CubConfig",
    "synthetic": f"{_HERE}.synthetic.source:SyntheticConfig",
    "motorcycle": f"{_HERE}.stereo.motorcycle:MotorcycleConfig",
}


def source_config(name: str) -> type[PreprocessConfig]:
    """The configuration class of a source.

    Args:
        name: one of :data:`SOURCES`, or ``package.module:Class`` for a source of one's own, which
            every node must be able to import.

    Raises:
        UserError: there is no such source.
    """
    if name not in SOURCES and ":" not in name:
        raise UserError(f"{name}: no such source; there are {', '.join(SOURCES)}")
    module, _, attribute = SOURCES.get(name, name).partition(":")
    if name not in SOURCES and os.getcwd() not in sys.path:
        # A console script does not look where the user stands; Ray hands the path to its workers.
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{name}: {error}; name a source as package.module:Class") from error
    if not (isinstance(found, type) and issubclass(found, PreprocessConfig)):
        raise UserError(f"{name}: is not a subclass of ucn.preprocessing.config.PreprocessConfig")
    return found
