"""Files of the PASCAL keypoints: Berkeley's annotations, and the image lists of the VOC devkit.

Annotations: Bourdev and Malik, "Poselets: Body Part Detectors Trained Using 3D Human Pose
Annotations", ICCV 2009, extended to all 20 categories in ``voc2011_keypoints_Feb2012.tgz``. A file
``annotations/CATEGORY/IMAGE_N.xml`` describes one object. N is the object's number in VOC's
annotation of the image (for persons 0, 2, 3, ...). Images and lists: the VOC 2011 development kit.
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.sources.input_files import list_names, read_lines, read_words
from ucn.preprocessing.sources.keypoints.pairs import Instance

# VOC's pixels are 1-based, and Berkeley's boxes have the same corners as VOC's.
_FIRST_PIXEL = 1.0


def find_objects(folder: Path) -> dict[str, list[str]]:
    """Find all annotated objects.

    Returns:
        Category to sorted names ``CATEGORY/IMAGE_N``.

    Raises:
        UserError: the folder is missing or has no annotations.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; extract voc2011_keypoints_Feb2012.tgz and name its folder "
            "with --annotations"
        )
    found: dict[str, list[str]] = {}
    for category in sorted(path.name for path in folder.iterdir() if path.is_dir()):
        names = sorted(
            name.removesuffix(".xml")
            for name in list_names(folder / category)
            if name.endswith(".xml") and "_" in name
        )
        if names:
            found[category] = [f"{category}/{name}" for name in names]
    if not found:
        raise UserError(
            f"{folder}: holds no CATEGORY/IMAGE_N.xml; extract voc2011_keypoints_Feb2012.tgz there"
        )
    return found


def image_of(name: str) -> str:
    """Name of the image of an object ``CATEGORY/IMAGE_N``."""
    return name.rpartition("/")[2].rpartition("_")[0]


def read_image_list(root: Path, split: str) -> set[str]:
    """Read the names of the images of a VOC split, ``ImageSets/Main/SPLIT.txt``.

    Raises:
        UserError: the split is missing or empty.
    """
    folder = root / "ImageSets" / "Main"
    try:
        words = [line.split() for line in read_lines(folder / f"{split}.txt")]
    except FileNotFoundError:
        known = [name for name in ("train", "val", "trainval") if (folder / f"{name}.txt").exists()]
        remedy = f"--split {', '.join(known)}" if known else "give VOCdevkit/VOC2011 as --root"
        raise UserError(f"{folder / split}.txt: no such list; {remedy}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / split}.txt: cannot be read ({error}); mend it") from None
    images = {line[0] for line in words if line}
    if not images:
        raise UserError(f"{folder / split}.txt: names no image; extract the devkit again")
    return images


def read_object_list(path: Path) -> set[str]:
    """Read a text file of names ``CATEGORY/IMAGE_N``, one per line, with or without ``.xml``.

    Raises:
        UserError: the file cannot be read, or is empty.
    """
    try:
        lines = read_words(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}); mend --objects") from None
    if not lines:
        raise UserError(f"{path}: names no object; write CATEGORY/IMAGE_N lines")
    return {line.removesuffix(".xml") for line in lines}


def read_object(folder: Path, name: str) -> Instance:
    """Read the annotation ``CATEGORY/IMAGE_N.xml`` of an object.

    Boxes and keypoints are assumed to be 1-based pixels, as in VOC. They are returned as 0-based
    pixels.

    Raises:
        SkippedPair: the annotation is missing or malformed.
    """
    try:
        annotation = ElementTree.parse(folder / f"{name}.xml").getroot()
    except OSError:
        raise SkippedPair("missing annotation", f"{name}.xml") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise SkippedPair("damaged annotation", f"{name}.xml: {error}") from None
    bounds = annotation.find("visible_bounds")
    image, category = annotation.findtext("image"), annotation.findtext("category")
    try:
        if bounds is None or not image or not category:
            raise ValueError("lacks image, category or visible_bounds")
        keypoints = {
            point.attrib["name"]: (
                float(point.attrib["x"]) - _FIRST_PIXEL,
                float(point.attrib["y"]) - _FIRST_PIXEL,
            )
            for point in annotation.iterfind("keypoints/keypoint")
            if int(point.attrib["visible"])
        }
        x, y, width, height = (
            float(bounds.attrib[side]) for side in ("xmin", "ymin", "width", "height")
        )
    except KeyError as error:
        raise SkippedPair("damaged annotation", f"{name}.xml: lacks {error}") from None
    except ValueError as error:
        raise SkippedPair("damaged annotation", f"{name}.xml: {error}") from None
    if (category.strip(), image.strip()) != (name.partition("/")[0], image_of(name)):
        raise SkippedPair("damaged annotation", f"{name}.xml: is of {category}, image {image}")
    box = (x - _FIRST_PIXEL, y - _FIRST_PIXEL, width, height)
    return Instance(f"JPEGImages/{image.strip()}.jpg", category.strip(), box, keypoints)
