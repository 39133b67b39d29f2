"""The yfcc source on broken scenes and images, and with wrong options."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.preprocessing.sources.yfcc_scenes import (
    config,
    render_scene,
    write_calibration,
    write_counts,
    write_scene,
)
from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.sources.base import PairRef
from ucn.preprocessing.sources.yfcc.source import YfccConfig

Fault = Callable[[Path], object]


def edit(name: str, change: Callable[[str], str]) -> Fault:
    def apply(folder: Path) -> None:
        path = folder / name
        path.write_text(change(path.read_text()))

    return apply


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda folder: (folder / "images.txt").unlink(), "images.txt: no such file"),
        (edit("images.txt", lambda text: text + "images/x.jpg\n"), "4 in images.txt, 3 in cal"),
        (
            edit("visibility.txt", lambda text: text[len("visibility/vis_000000.txt\n") :]),
            "2 in visibility.txt",
        ),
        (edit("images.txt", lambda text: "/etc/passwd\n" + text), "line 1 names no file below"),
        (edit("images.txt", lambda text: "../../x.jpg\n" + text), "line 1 names no file below"),
        (lambda folder: (folder / "images.txt").write_bytes(b"\xff\xfe\x00"), "cannot be read"),
        (lambda folder: (folder / "visibility/vis_000001.txt").unlink(), "vis_000001.txt: no such"),
        (edit("visibility/vis_000001.txt", lambda text: text + "7\n"), "4 values, where each of 3"),
        (edit("visibility/vis_000001.txt", lambda _: ""), "0 values, where each of 3"),
        (edit("visibility/vis_000001.txt", lambda _: "1 x 3"), "not a list of numbers"),
        (edit("visibility/vis_000001.txt", lambda _: "1 nan 3"), "a negative one or NaN"),
        (edit("visibility/vis_000001.txt", lambda _: "1 -5 3"), "a negative one or NaN"),
    ],
)
def test_a_broken_scene_is_one_line(tmp_path: Path, fault: Fault, message: str) -> None:
    folder = tmp_path / "louvre" / "train"
    write_counts(folder, np.full((3, 3), 200))
    (folder / "visibility.txt").write_text(
        "".join(f"visibility/vis_{n:06d}.txt\n" for n in range(3))
    )
    for number in range(3):
        (folder / f"visibility/{number}.txt").rename(folder / f"visibility/vis_{number:06d}.txt")
    fault(folder)
    with pytest.raises(UserError, match=message) as caught:
        config(tmp_path).open_source().pairs()
    assert "\n" not in str(caught.value)
    assert "louvre" in str(caught.value)


VIEWS = render_scene(0)


def calibrated(**changes: Any) -> Fault:
    return lambda folder: write_calibration(
        folder / "calibration/calibration_000001.h5", VIEWS[1], **changes
    )


def cut(name: str, share: float) -> Fault:
    def apply(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return apply


CALIBRATION = "calibration/calibration_000001.h5"
MIRROR = np.diag([1.0, 1, -1])
ABSOLUTE = VIEWS[1].K


@pytest.mark.parametrize(
    ("fault", "reason", "detail"),
    [
        (lambda folder: (folder / CALIBRATION).unlink(), "missing calibration", "000001.h5"),
        (cut(CALIBRATION, 0.5), "damaged calibration", "000001.h5"),
        (cut(CALIBRATION, 0), "damaged calibration", "no HDF5"),
        (lambda folder: (folder / CALIBRATION).write_text("K"), "damaged calibration", "no HDF5"),
        (calibrated(R=None), "damaged calibration", "no R"),
        (calibrated(imsize=None), "damaged calibration", "no imsize"),
        (calibrated(K=np.eye(2)), "damaged calibration", "no K"),
        (calibrated(K="focal"), "damaged calibration", "no K"),
        (calibrated(T=np.array([0, np.nan, 0])), "damaged calibration", "T is not finite"),
        (calibrated(K=np.zeros((3, 3))), "damaged calibration", "not a camera matrix"),
        (calibrated(K=ABSOLUTE), "damaged calibration", "not relative to the centre"),
        (calibrated(R=MIRROR), "damaged calibration", "not a rotation"),
        (calibrated(R=2 * np.eye(3)), "damaged calibration", "not a rotation"),
        (calibrated(imsize=np.array([0.0, 300])), "damaged calibration", "imsize"),
        (calibrated(imsize=np.array([310.0, 380])), "image size differs", "380x310 and 310x380"),
        (lambda folder: (folder / "images/01_photo.jpg").unlink(), "missing image", "01_photo"),
        (cut("images/01_photo.jpg", 0.6), "damaged image", "01_photo.jpg"),
    ],
)
def test_a_broken_image_skips_its_pairs(
    tmp_path: Path, fault: Fault, reason: str, detail: str
) -> None:
    fault(write_scene(tmp_path, views=VIEWS))
    source = config(tmp_path).open_source()
    first, _, last = source.pairs()
    for pair in (first, last):
        source.input_fingerprint(pair)
        with pytest.raises(SkippedPair) as caught:
            source.load(pair)
        assert caught.value.reason == reason
        assert detail in caught.value.detail
    assert source.load(PairRef("louvre-train", "000000", "000002")).metadata["matches"] > 0


def test_two_photos_from_one_place_are_skipped(tmp_path: Path) -> None:
    view = VIEWS[0]
    source = config(write_scene(tmp_path, views=[view, view]).parents[1]).open_source()
    with pytest.raises(SkippedPair, match="no baseline"):
        source.load(source.pairs()[0])


def test_pairs_without_matches_are_skipped(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (310, 380), dtype=np.uint8)
    write_scene(tmp_path, views=[VIEWS[0], replace(VIEWS[1], image=noise)])
    source = config(tmp_path).open_source()
    with pytest.raises(SkippedPair, match="too few matches"):
        source.load(source.pairs()[0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scenes": ("nowhere",)}, "nowhere/train: no such folder"),
        ({"scenes": (), "split": "test"}, "buckingham_palace/test: no such folder"),
        ({"split": "all"}, "no folder of a scene is called all"),
        ({"scenes": ("../etc",)}, "scenes"),
        ({"root": "/nowhere"}, "/nowhere: no such folder"),
        ({"min_visibility": 500}, "lower --min-visibility"),
        ({"max_ratio": 1.5}, "max_ratio"),
    ],
)
def test_wrong_options_are_one_line(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    write_scene(tmp_path, views=VIEWS)
    with pytest.raises(UserError, match=message) as caught:
        YfccConfig(
            **({"root": str(tmp_path), "out": "x", "scenes": ("louvre",)} | values)
        ).open_source().pairs()
    assert "\n" not in str(caught.value)
