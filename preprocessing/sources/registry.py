"""The sources by name. A source is imported on first use."""

from ucn.preprocessing.config import PreprocessConfig
from ucn.registry import Registry

SOURCES: Registry[type[PreprocessConfig]] = Registry(
    "source",
    {
        "kitti-raw": "ucn.preprocessing.sources.kitti.raw:KittiRawConfig",
        "kitti-odometry": "ucn.preprocessing.sources.kitti.odometry:KittiOdometryConfig",
        "kitti-flow": "ucn.preprocessing.sources.flow.kitti:KittiFlowConfig",
        "sintel": "ucn.preprocessing.sources.flow.sintel:SintelConfig",
        "flow-folder": "ucn.preprocessing.sources.flow.folder:FlowFolderConfig",
        "yfcc": "ucn.preprocessing.sources.yfcc.source:YfccConfig",
        "colmap": "ucn.preprocessing.sources.sfm.colmap:ColmapConfig",
        "bundler": "ucn.preprocessing.sources.sfm.bundler:BundlerConfig",
        "homography": "ucn.preprocessing.sources.photos.homography:HomographyConfig",
        "hpatches": "ucn.preprocessing.sources.planar.hpatches:HPatchesConfig",
        "oxford-affine": "ucn.preprocessing.sources.planar.oxford_affine:OxfordAffineConfig",
        "pascal": "ucn.preprocessing.sources.keypoints.pascal:PascalConfig",
        "cub": "ucn.preprocessing.sources.keypoints.cub:CubConfig",
        "synthetic": "ucn.preprocessing.sources.synthetic.source:SyntheticConfig",
        "stereo": "ucn.preprocessing.sources.stereo.folder:StereoConfig",
        "motorcycle": "ucn.preprocessing.sources.stereo.motorcycle:MotorcycleConfig",
    },
    "ucn.preprocessing.config:PreprocessConfig",
)
