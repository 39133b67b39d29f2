"""The example of docs/adding_a_dataset.md does what the page says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from ucn.errors import UserError
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.sources.registry import SOURCES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def stereo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A square before a wall: disparity 12 inside it, 3.25 elsewhere, unknown in a corner."""
    root = tmp_path_factory.mktemp("stereo")
    for folder in ("left", "right", "disparity"):
        (root / folder).mkdir()
    for name in ("room.1", "room.2", "torn"):
        image = np.random.default_rng(1).integers(0, 256, (60, 80), dtype=np.uint8)
        disparity = np.full((60, 80), 3.25)
        disparity[20:40, 30:50] = 12
        disparity[:5, :5] = np.nan
        cv2.imwrite(str(root / "left" / f"{name}.png"), image)
        cv2.imwrite(str(root / "right" / f"{name}.png"), image)
        np.save(root / "disparity" / f"{name}.npy", disparity)
    (root / "disparity" / "torn.npy").write_bytes(b"\x93NUMPY torn")
    return root


def ucn(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from ucn.pipeline.main import main; sys.exit(main(sys.argv[1:]))"
    # As the console script has it: the current folder is not on the path.
    environment = os.environ | {"PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_page_shows_the_file() -> None:
    page = (DOCS / "adding_a_dataset.md").read_text()
    shown = page.split("```python\n")[1].split("```")[0]
    assert shown == (DOCS / "examples" / "stereo_folder.py").read_text()


@pytest.mark.ray
@pytest.mark.parametrize("workers", ["0", "1"])
def test_the_example_makes_verified_shards(stereo_root: Path, tmp_path: Path, workers: str) -> None:
    out = tmp_path / "out"
    words = ["preprocess", "stereo_folder:StereoFolderConfig", "--root", str(stereo_root)]
    done = ucn(*words, "--out", str(out), "--workers", workers, folder=DOCS / "examples")
    assert done.returncode == 0, done.stderr
    totals = json.loads(done.stdout)
    assert (totals["samples"], totals["skipped"]) == (2, {"damaged disparity": 1})
    assert ucn("verify", str(out), folder=tmp_path).returncode == 0
    sample = ShardDataset(out)[0]
    assert sample.key == "room_1"
    x0, y0, x1, y1 = sample.matches_N4.T
    near = (x0 >= 30) & (x0 < 50) & (y0 >= 20) & (y0 < 40)
    np.testing.assert_array_equal(y0, y1)
    np.testing.assert_array_equal(x0 - x1, np.where(near, 12, 3.25))
    assert near.sum() == 400
    # In the right image the square covers the wall from 18 to 37.
    hidden = (y0 >= 20) & (y0 < 40) & ~near & (x1 > 17.5) & (x1 < 37.5)
    assert not hidden.any()
    rejected = sample.metadata["rejected"]
    assert rejected["unknown disparity"] == 25
    assert sum(rejected.values()) + len(x0) == 60 * 80


def test_what_is_no_source_is_told(stereo_root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nonsense: no such source; there are kitti-raw,"):
        SOURCES.load("nonsense")
    with pytest.raises(UserError, match=r"kitti_raw: .* did you mean kitti-raw\?"):
        SOURCES.load("kitti_raw")
    with pytest.raises(UserError, match=r"no_such_module_here: cannot be imported"):
        SOURCES.load("no_such_module_here:Config")
    with pytest.raises(UserError, match="not a subclass"):
        SOURCES.load("pathlib:Path")
    bad = ucn(
        "preprocess",
        "stereo_folder:StereoFolderConfig",
        "--root",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
        folder=DOCS / "examples",
    )
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "holds no .npy; pass the folder above it" in bad.stderr


@pytest.mark.parametrize("workers", ["0", pytest.param("1", marks=pytest.mark.ray)])
def test_a_source_may_begin_with_pycolmap(tmp_path: Path, workers: str) -> None:
    """OpenCV aborts at its first PNG in a process that has loaded pycolmap before it."""
    pytest.importorskip("pycolmap")
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "photos/a.png"), cv2.GaussianBlur(noise, (0, 0), 2))
    (tmp_path / "begins_with_pycolmap.py").write_text(
        "import sys\n\n"
        "assert 'cv2' in sys.modules\n"
        "import pycolmap\n"
        "from ucn.preprocessing.sources.photos.homography import HomographyConfig\n\n\n"
        "class PhotosConfig(HomographyConfig):\n"
        '    """Photos."""\n'
    )
    words = ["preprocess", "begins_with_pycolmap:PhotosConfig", "--root", "photos", "--out", "out"]
    done = ucn(*words, "--pairs-per-photo", "1", "--workers", workers, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["samples"] == 1


def test_pycolmap_before_everything_else_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    code = "import pycolmap\nimport ucn\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError: pycolmap was imported before OpenCV" in done.stderr
