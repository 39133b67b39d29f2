"""The dataset card: a Markdown page about a dataset of shards, for people.

``card.md`` lies beside the manifest and is outside its digest. It names no path of the machine.
"""

import hashlib
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml

from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.shards.format import CARD, MANIFEST, SKIPPED, Manifest, to_json
from ucn.storage.addresses import redact
from ucn.storage.stores import Store, write_bytes


class Origin(NamedTuple):
    """The dataset that a source reads."""

    dataset: str
    homepage: str
    licence: str
    citation: str


_NOT_STATED = "not stated by the source"
_OWN = "that of your data"
_HOMEPAGE = "see the homepage"
_KITTI = "https://www.cvlibs.net/datasets/kitti/"
_CC = "CC BY-NC-SA 3.0"

ORIGINS = {
    "kitti-raw": Origin(
        "KITTI raw data",
        f"{_KITTI}raw_data.php",
        _CC,
        "Geiger, Lenz, Stiller, Urtasun: Vision meets Robotics: The KITTI Dataset. IJRR 2013",
    ),
    "kitti-odometry": Origin(
        "KITTI odometry",
        f"{_KITTI}eval_odometry.php",
        f"{_CC}; labels of SemanticKITTI: see https://semantic-kitti.org",
        "Geiger, Lenz, Urtasun: Are we ready for Autonomous Driving? The KITTI Vision Benchmark "
        "Suite. CVPR 2012",
    ),
    "kitti-flow": Origin(
        "KITTI flow 2012 or 2015",
        f"{_KITTI}eval_scene_flow.php?benchmark=flow",
        _CC,
        "2012: Geiger, Lenz, Urtasun: Are we ready for Autonomous Driving? The KITTI Vision "
        "Benchmark Suite. CVPR 2012. 2015: Menze, Geiger: Object Scene Flow for Autonomous "
        "Vehicles. CVPR 2015",
    ),
    "sintel": Origin(
        "MPI Sintel",
        "http://sintel.is.tue.mpg.de",
        _HOMEPAGE,
        "Butler, Wulff, Stanley, Black: A Naturalistic Open Source Movie for Optical Flow "
        "Evaluation. ECCV 2012",
    ),
    "flow-folder": Origin("images with optical flow", "", _OWN, ""),
    "yfcc": Origin(
        "landmarks of YFCC100M, as OANet distributes them",
        "https://github.com/zjhthu/OANet",
        "each photo: the Creative Commons licence that its author chose; see the homepage",
        "Thomee et al.: YFCC100M: The New Data in Multimedia Research. CACM 2016. Zhang et al.: "
        "Learning Two-View Correspondences and Geometry Using Order-Aware Network. ICCV 2019",
    ),
    "colmap": Origin("photos with a COLMAP model", "", _OWN, ""),
    "bundler": Origin("photos with a Bundler model", "", _OWN, ""),
    "homography": Origin("photos under random homographies", "", _OWN, ""),
    "hpatches": Origin(
        "HPatches, full sequences",
        "https://github.com/hpatches/hpatches-dataset",
        "MIT (the LICENSE of its repository)",
        "Balntas, Lenc, Vedaldi, Mikolajczyk: HPatches: A Benchmark and Evaluation of Handcrafted "
        "and Learned Local Descriptors. CVPR 2017",
    ),
    "oxford-affine": Origin(
        "Oxford affine covariant features",
        "https://www.robots.ox.ac.uk/~vgg/research/affine/",
        _HOMEPAGE,
        "Mikolajczyk et al.: A Comparison of Affine Region Detectors. IJCV 2005",
    ),
    "pascal": Origin(
        "PASCAL VOC 2011 with Berkeley's keypoints",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2011/",
        _HOMEPAGE,
        "Bourdev, Malik: Poselets: Body Part Detectors Trained Using 3D Human Pose Annotations. "
        "ICCV 2009",
    ),
    "cub": Origin(
        "Caltech-UCSD Birds-200-2011",
        "https://www.vision.caltech.edu/datasets/cub_200_2011/",
        _HOMEPAGE,
        "Wah, Branson, Welinder, Perona, Belongie: The Caltech-UCSD Birds-200-2011 Dataset. "
        "Technical Report CNS-TR-2011-001, 2011",
    ),
    "synthetic": Origin(
        "rendered drives; textures of scikit-image",
        "https://scikit-image.org",
        "textures: see the LICENSE of scikit-image",
        "",
    ),
    "stereo": Origin(
        "KITTI stereo 2012 or 2015, Middlebury stereo, ETH3D two-view, or SceneFlow",
        "",
        f"{_CC} (KITTI); otherwise that of the dataset",
        "2012: Geiger et al.: Are we ready for Autonomous Driving? CVPR 2012. 2015: Menze, Geiger: "
        "Object Scene Flow for Autonomous Vehicles. CVPR 2015. Middlebury: Scharstein et al., GCPR "
        "2014. ETH3D: Schöps et al., CVPR 2017. SceneFlow: Mayer et al., CVPR 2016",
    ),
    "motorcycle": Origin(
        "Motorcycle of Middlebury stereo 2014, as in scikit-image",
        "https://vision.middlebury.edu/stereo/data/scenes2014/",
        _HOMEPAGE,
        "Scharstein et al.: High-Resolution Stereo Datasets with Subpixel-Accurate Ground Truth. "
        "GCPR 2014",
    ),
}
"""By source. Sources of users are not listed."""


def write_card(store: Store, config: PreprocessConfig, manifest: Manifest) -> None:
    """Publishes the card of a dataset, after its manifest.

    Raises:
        UserError: the store cannot be written.
    """
    write_bytes(store, CARD, format_card(config, manifest).encode())


def format_card(config: PreprocessConfig, manifest: Manifest) -> str:
    """Formats the card.

    Args:
        config: options that the shards were made with.
        manifest: the published manifest.
    """
    totals = manifest.totals
    origin = ORIGINS.get(config.source, Origin(config.source, "", _NOT_STATED, ""))
    facts = {
        "dataset": origin.dataset,
        "homepage": f"<{origin.homepage}>" if origin.homepage else _NOT_STATED,
        "licence": origin.licence,
        "citation": origin.citation or _NOT_STATED,
        "split": config.split,
        "pairs": f"{totals.samples:,}",
        "matches": f"{totals.matches:,}",
        "shards": f"{totals.shards:,}",
        "bytes": f"{totals.bytes:,}",
        f"SHA-256 of `{MANIFEST}`": hashlib.sha256(to_json(manifest).encode()).hexdigest(),
        "card written by": f"ucn {version('ucn')}",
    }
    skipped = [f"- {reason}: {count:,}" for reason, count in totals.skipped.items()]
    content = config.content()
    changed = config.model_dump(mode="json", include=set(content), exclude_defaults=True)
    image = "jpg" if config.images == "rgb-jpeg" else "png"
    tars = f"{config.split}-{{000000..{totals.shards - 1:06d}}}.tar"
    return "\n".join(
        [
            f"# {config.source}: {config.split}",
            "",
            "Image pairs with verified correspondences, made by `ucn preprocess "
            f"{config.source}`. The shards contain images of the dataset, so its licence applies.",
            "",
            "| | |",
            "| --- | --- |",
            *(f"| {name} | {value} |" for name, value in facts.items()),
            "",
            "## Skipped inputs",
            "",
            *(skipped or ["None."]),
            *(["", f"`{SKIPPED}` lists each."] if skipped else []),
            "",
            "## Options",
            "",
            "Options that differ from their defaults:",
            "",
            *_yaml(changed),
            "",
            "All options that the content depends on:",
            "",
            *_yaml(manifest.configuration),
            "",
            "## How to read it",
            "",
            "Where FOLDER is the folder or URI of this file:",
            "",
            "```",
            "ucn verify FOLDER",
            "ucn inspect FOLDER --save sheet.png",
            "ucn train data.shards=FOLDER",
            "```",
            "",
            "The tars are WebDataset shards:",
            "",
            "```python",
            "import webdataset",
            "",
            f'for pair in webdataset.WebDataset("{tars}", shardshuffle=False).decode("rgb8"):',
            f'    image0, image1 = pair["image0.{image}"], pair["image1.{image}"]',
            '    x0, y0, x1, y1 = pair["matches.npy"].T',
            "```",
            "",
        ]
    )


def _yaml(options: dict[str, Any]) -> list[str]:
    return ["```yaml", yaml.safe_dump(_without_folders(options)).rstrip(), "```"]


def _without_folders(value: Any) -> Any:
    """Replaces absolute paths and URIs by the name of the file."""
    if isinstance(value, dict):
        return {name: _without_folders(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(one) for one in value]
    if isinstance(value, str) and ("://" in value or Path(value).expanduser().is_absolute()):
        return f".../{PurePosixPath(redact(value)).name}"
    return value
