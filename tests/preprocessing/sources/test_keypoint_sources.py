"""CUB and PASCAL keypoints: on data written in their layouts, and on real birds."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.preprocessing.sources.base import Source
from ucn.preprocessing.sources.keypoints.cub import CubConfig
from ucn.preprocessing.sources.keypoints.pairs import choose_pairs
from ucn.preprocessing.sources.keypoints.pascal import PascalConfig

PARTS = ["beak", "left eye", "tail", "throat", "crown"]


@given(st.integers(2, 30), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_pairs_are_distinct_and_of_two_images(objects: int, count: int, seed: int) -> None:
    images = [f"image{index // 2}" for index in range(objects)]
    pairs = choose_pairs(images, count, [seed])
    assert pairs == sorted(set(pairs))
    assert len(pairs) <= count
    assert all(0 <= i < j < objects and images[i] != images[j] for i, j in pairs)
    assert pairs == choose_pairs(images, count, [seed])
    everything = choose_pairs([str(index) for index in range(objects)], 10_000, [seed])
    assert len(everything) == objects * (objects - 1) // 2


def write_birds(root: Path) -> None:
    """Two species of three images; the parts lie at known places, some hidden."""
    rng = np.random.default_rng(0)
    lines: dict[str, list[str]] = {
        name: []
        for name in (
            "images.txt",
            "image_class_labels.txt",
            "train_test_split.txt",
            "bounding_boxes.txt",
            "parts/part_locs.txt",
        )
    }
    (root / "parts").mkdir(parents=True)
    (root / "classes.txt").write_text("1 001.Crow\n2 002.Gull\n")
    (root / "parts" / "parts.txt").write_text(
        "".join(f"{number} {name}\n" for number, name in enumerate(PARTS, 1))
    )
    for number in range(1, 7):
        species = "001.Crow" if number <= 3 else "002.Gull"
        name = f"{species}/bird_{number}.jpg"
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        lines["images.txt"].append(f"{number} {name}")
        lines["image_class_labels.txt"].append(f"{number} {1 if number <= 3 else 2}")
        lines["train_test_split.txt"].append(f"{number} 1")
        lines["bounding_boxes.txt"].append(f"{number} 5.0 6.0 50.0 40.0")
        for part in range(1, 6):
            shown = int(part != 5 or number != 1)
            x, y = (10.5 * part, 5.0 * part + number) if shown else (0.0, 0.0)
            lines["parts/part_locs.txt"].append(f"{number} {part} {x} {y} {shown}")
    for name, rows in lines.items():
        (root / name).write_text("\n".join(rows) + "\n")


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    root = tmp_path / "CUB_200_2011"
    write_birds(root)
    return root


def cub(root: Path, **options: object) -> Source:
    return CubConfig(root=str(root), out="unused", **options).open_source()


def test_birds_are_matched_by_the_parts_both_show(birds: Path) -> None:
    source = cub(birds)
    pairs = source.pairs()
    assert [tuple(pair) for pair in pairs] == [
        (species, str(first), str(second))
        for species, numbers in (("001.Crow", (1, 2, 3)), ("002.Gull", (4, 5, 6)))
        for index, first in enumerate(numbers)
        for second in numbers[index + 1 :]
    ]
    sample = source.load(pairs[0])
    expected = [[10.5 * part, 5 * part + 1, 10.5 * part, 5 * part + 2] for part in range(1, 5)]
    np.testing.assert_array_equal(sample.matches_N4, np.array(expected, np.float32))
    assert sample.attributes["keypoint"].tolist() == [0, 1, 2, 3]
    assert sample.metadata["kind"] == "semantic"
    assert sample.metadata["category"] == "001.Crow"
    assert sample.metadata["box0"] == [5, 6, 50, 40]
    assert sample.metadata["keypoint_names"] == PARTS
    assert sample.metadata["rejected"]["visible in one image only"] == 1
    assert "." not in sample.key
    assert len(source.load(pairs[-1]).matches_N4) == 5


def test_listed_pairs_take_the_place_of_chance(birds: Path, tmp_path: Path) -> None:
    listed = tmp_path / "pairs.txt"
    listed.write_text("# a comment\n\n4 2\n001.Crow/bird_1.jpg 001.Crow/bird_3.jpg\n")
    pairs = cub(birds, pairs_file=str(listed)).pairs()
    assert [tuple(pair)[1:] for pair in pairs] == [("4", "2"), ("1", "3")]
    listed.write_text("1 99\n")
    with pytest.raises(UserError, match=r"99 is not in images\.txt"):
        cub(birds, pairs_file=str(listed)).pairs()


def _drop_parts(root: Path) -> None:
    (root / "parts" / "part_locs.txt").unlink()


def _letters(root: Path) -> None:
    (root / "bounding_boxes.txt").write_text("1 a b c d\n")


def _unknown_part(root: Path) -> None:
    with (root / "parts" / "part_locs.txt").open("a") as file:
        file.write("1 77 5 5 1\n")


def _unknown_class(root: Path) -> None:
    (root / "classes.txt").write_text("1 001.Crow\n")


def _no_split(root: Path) -> None:
    (root / "train_test_split.txt").write_text("1 1\n")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_drop_parts, r"part_locs\.txt: no such file"),
        (_letters, r"bounding_boxes\.txt: not a table of numbers"),
        (_unknown_part, r"part 77 is not in parts\.txt"),
        (_unknown_class, r"class 2 is not in classes\.txt"),
        (_no_split, r"train_test_split\.txt: has no row for image 2"),
    ],
)
def test_damaged_lists_are_told(birds: Path, damage: Callable[[Path], None], told: str) -> None:
    damage(birds)
    with pytest.raises(UserError, match=told) as error:
        cub(birds).pairs()
    assert "\n" not in str(error.value)


def test_damaged_photos_are_counted(birds: Path, tmp_path: Path) -> None:
    (birds / "images" / "001.Crow" / "bird_1.jpg").unlink()
    photo = birds / "images" / "002.Gull" / "bird_4.jpg"
    photo.write_bytes(photo.read_bytes()[:300])
    out = tmp_path / "out"
    manifest = preprocess(CubConfig(root=str(birds), out=str(out), workers=0))
    assert manifest.totals.samples == 2
    assert manifest.totals.skipped == {"damaged image": 2, "missing image": 2}
    assert verify_dataset(out) == []


def test_unknown_splits_are_refused(birds: Path) -> None:
    with pytest.raises(UserError, match="CUB's official splits are train and test"):
        cub(birds, split="val").pairs()
    with pytest.raises(UserError, match="no species has two images in split test"):
        cub(birds, split="test").pairs()


def test_real_birds(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "CUB_200_2011"
    manifest = preprocess(CubConfig(root=str(root), out=str(tmp_path), workers=0))
    assert manifest.totals.samples >= 5
    assert verify_dataset(tmp_path) == []
    dataset = ShardDataset(tmp_path)
    for index in range(len(dataset)):
        sample = dataset[index]
        for which, columns in ((0, slice(0, 2)), (1, slice(2, 4))):
            x, y, width, height = sample.metadata[f"box{which}"]
            inside = (sample.matches_N4[:, columns] >= [x - 3, y - 3]) & (
                sample.matches_N4[:, columns] <= [x + width + 3, y + height + 3]
            )
            assert inside.mean() > 0.9, "parts lie in their bird's box"


def write_objects(root: Path) -> None:
    """Three aeroplanes in three photos, and two cats in one."""
    (root / "JPEGImages").mkdir(parents=True)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    rng = np.random.default_rng(1)
    names = ["2008_000001", "2008_000002", "2008_000003"]
    for name in names:
        image = rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)
        cv2.imwrite(str(root / "JPEGImages" / f"{name}.jpg"), image)
    (root / "ImageSets" / "Main" / "train.txt").write_text("\n".join(names) + "\n")
    (root / "ImageSets" / "Main" / "val.txt").write_text(f"{names[0]}\n")
    for number, name in enumerate(names):
        write_object(root, "aeroplane", name, 1, shift=number)
    write_object(root, "cat", names[0], 2, shift=0)
    write_object(root, "cat", names[0], 3, shift=1)


def write_object(root: Path, category: str, image: str, number: int, shift: int) -> None:
    folder = root / "annotations" / category
    folder.mkdir(parents=True, exist_ok=True)
    keypoints = "".join(
        f'<keypoint name="{name}" visible="{int(name != "Hidden")}" '
        f'x="{10.5 + 9 * index + shift}" y="{8.25 + 5 * index}" z="0"/>'
        for index, name in enumerate(("Nose", "Wing", "Tail", "Engine", "Hidden"))
    )
    (folder / f"._{image}_{number}.xml").touch()
    (folder / f"{image}_{number}.xml").write_text(
        f"<annotation><image>{image}</image><voc_id>{number}</voc_id>"
        f"<category>{category}</category>"
        '<visible_bounds height="40" width="60" xmin="3" ymin="4"/>'
        f"<keypoints>{keypoints}</keypoints></annotation>"
    )


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "VOC2011"
    write_objects(root)
    return root


def pascal(root: Path, **options: object) -> Source:
    return PascalConfig(root=str(root), out="unused", **options).open_source()


def test_objects_are_matched_by_their_keypoints_from_pixel_one(voc: Path) -> None:
    source = pascal(voc)
    pairs = source.pairs()
    assert [pair.sequence for pair in pairs] == ["aeroplane"] * 3, "the cats share an image"
    sample = source.load(pairs[0])
    found = {
        sample.metadata["keypoint_names"][index]: row.tolist()
        for index, row in zip(sample.attributes["keypoint"], sample.matches_N4, strict=True)
    }
    assert found == {
        name: [9.5 + 9 * index, 7.25 + 5 * index, 10.5 + 9 * index, 7.25 + 5 * index]
        for index, name in enumerate(("Nose", "Wing", "Tail", "Engine"))
    }
    assert sample.metadata["box0"] == [2, 3, 60, 40]
    assert sample.metadata["category"] == "aeroplane"


def _no_bounds(text: str) -> str:
    return text.replace("visible_bounds", "bounds")


def _no_number(text: str) -> str:
    return text.replace('x="10.5"', 'x="wide"')


def _other_category(text: str) -> str:
    return text.replace("<category>aeroplane", "<category>boat")


def _flat_box(text: str) -> str:
    return text.replace('height="40"', 'height="0"')


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_no_bounds, "lacks image, category or visible_bounds"),
        (_no_number, "could not convert"),
        (_other_category, "is of boat"),
        (_flat_box, "box"),
        (lambda text: text[:60], "aeroplane/2008_000001_1.xml"),
    ],
)
def test_damaged_annotations_are_skipped(
    voc: Path, damage: Callable[[str], str], told: str
) -> None:
    path = voc / "annotations" / "aeroplane" / "2008_000001_1.xml"
    path.write_text(damage(path.read_text()))
    source = pascal(voc)
    with pytest.raises(SkippedPair, match=told) as skipped:
        source.load(source.pairs()[0])
    assert skipped.value.reason == "damaged annotation"


def test_wrong_folders_and_lists_are_told(voc: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"extract voc2011_keypoints"):
        pascal(tmp_path / "nowhere").pairs()
    with pytest.raises(UserError, match=r"test\.txt: no such list; --split train, val"):
        pascal(voc, split="test").pairs()
    with pytest.raises(UserError, match="no category has objects in two images of val"):
        pascal(voc, split="val").pairs()
    with pytest.raises(UserError, match="--categories boat: not in"):
        pascal(voc, categories=("boat",)).pairs()
    listed = tmp_path / "objects.txt"
    listed.write_text("aeroplane/2008_000001_1\naeroplane/2008_000002_1.xml\n")
    assert len(pascal(voc, objects=str(listed)).pairs()) == 1
    listed.write_text("aeroplane/2008_999999_1\n")
    with pytest.raises(UserError, match="aeroplane/2008_999999_1 is not in"):
        pascal(voc, objects=str(listed)).pairs()
