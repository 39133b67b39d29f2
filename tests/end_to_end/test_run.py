"""The whole road through the command line: a tiny run, its rerun, and matching with its model."""

import hashlib
import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import yaml

from ucn.pipeline.main import main

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def run_folder(world_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on two small drives and the Motorcycle pair."""
    folder = tmp_path_factory.mktemp("run")
    drives = {"source": "kitti-raw", "root": str(world_root), "min_matches": 50}
    config = {
        "out": str(folder),
        "shards": {
            "train": {**drives, "drives": ["0001"], "gaps": [1, 2]},
            "val": {**drives, "drives": ["0002"], "gaps": [1]},
            "test": {**drives, "drives": ["0002"], "gaps": [2]},
            "motorcycle": {"source": "motorcycle", "max_matches": 3000},
        },
        "train": {
            "steps": 6,
            "batch_size": 2,
            "points": 128,
            "schedule": {"warmup_steps": 2},
            "augmentation": {"crop_width": 160, "crop_height": 96},
            "validate_every": 3,
            "checkpoint_every": 3,
        },
        "evaluate": {"pairs": 2, "points": 200, "baselines": ["daisy"]},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert main(["run", "--config", str(folder / "run.yaml")]) == 0
    return folder


def test_a_run_leaves_shards_model_and_report(run_folder: Path) -> None:
    assert (run_folder / "shards" / "train" / "manifest.json").exists()
    assert (run_folder / "train" / "model" / "model.safetensors").exists()
    metrics = json.loads((run_folder / "evaluate" / "metrics.json").read_text())
    for name in ("pck/1", "pck/3", "pck/5", "pck/10", "pose/rotation_deg_median", "pose/auc_5"):
        assert {name, f"baseline/daisy/{name}", f"motorcycle/{name}"} <= set(metrics)
    assert 0 <= metrics["pck/3"] <= metrics["pck/10"] <= 100
    page = (run_folder / "evaluate" / "report.html").read_text()
    assert "data:image/" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_mlflow_has_all_runs_with_their_data(run_folder: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{run_folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("ucn")
    runs = client.search_runs([experiment.experiment_id])
    names = {run.info.run_name for run in runs}
    assert {"evaluate · test, motorcycle", "test · UCN", "motorcycle · dense DAISY"} <= names
    assert len(runs) == len(names)
    assert all(run.info.status == "FINISHED" for run in runs)
    digest = hashlib.sha256((run_folder / "shards" / "train" / "manifest.json").read_bytes())
    inputs = {one.dataset.digest for run in runs for one in run.inputs.dataset_inputs}
    assert any(digest.hexdigest().startswith(one) for one in inputs)
    logged = {name for run in runs for name in run.data.metrics}
    assert {"loss", "hit_ratio", "pck/10", "pck_curve"} <= logged
    (model,) = client.search_logged_models([experiment.experiment_id])
    scored = {score.run_id for score in model.metrics}
    assert {run.info.run_id for run in runs if "UCN" in run.info.run_name} <= scored


def test_a_rerun_changes_nothing(run_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def state() -> dict[Path, int]:
        return {
            path: path.stat().st_mtime_ns
            for part in ("shards", "train/model", "evaluate")
            for path in (run_folder / part).rglob("*")
            if path.is_file()
        }

    before = state()
    capfd.readouterr()
    assert main(["run", "--config", str(run_folder / "run.yaml")]) == 0
    assert state() == before
    assert "PCK@10" in capfd.readouterr().out


def test_matching_two_photos(
    run_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng()
    image = cv2.GaussianBlur(rng.integers(0, 256, (120, 160), dtype=np.uint8), (0, 0), 1.5)
    photos = [tmp_path / "a.png", tmp_path / "b.jpg"]
    cv2.imwrite(str(photos[0]), image[:, :150])
    cv2.imwrite(str(photos[1]), image[:, 10:])
    model = run_folder / "train" / "model"
    names = ["--root", str(tmp_path), *(photo.name for photo in photos)]
    common = ["match", *names, "--model", str(model), "--save", str(tmp_path / "m.png")]
    for name in ("m.npz", "m.h5"):
        assert main([*common, "--out", str(tmp_path / name)]) == 0
    with np.load(tmp_path / "m.npz", allow_pickle=False) as arrays:
        matches_N4 = arrays["matches"]
    shift = matches_N4[:, 2:] - matches_N4[:, :2]
    assert len(matches_N4) > 20
    assert np.median(np.abs(shift - [-10, 0])) < 3
    with h5py.File(tmp_path / "m.h5") as file:
        group = file["a.png/b.jpg"]
        assert len(group["matches0"]) == len(matches_N4) == len(group["keypoints0"])
    assert cv2.imread(str(tmp_path / "m.png")) is not None

    capfd.readouterr()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    for bad in (
        [str(tmp_path / "bad.png"), str(photos[1]), "--model", str(model)],
        [*map(str, photos), "--model", str(tmp_path)],
        [*map(str, photos), "--model", str(model), "--out", str(tmp_path / "m.txt")],
        [*map(str, photos), "--model", str(model), "--save", str(tmp_path / "m.gif")],
    ):
        assert main(["match", *bad]) == 2
        assert len(capfd.readouterr().err.strip().splitlines()) == 1


def test_the_python_face(run_folder: Path) -> None:
    import ucn

    model = ucn.load_model(run_folder / "train" / "model")
    image = np.random.default_rng().integers(0, 256, (64, 80), dtype=np.uint8)
    points = np.array([[3.0, 4.0], [70.5, 60.25]])
    described = ucn.describe(model, image, points)
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1, atol=1e-5)
    matches, scores = ucn.match(model, image, image, keypoints=100)
    assert matches.shape == (len(scores), 4)
    assert np.median(np.linalg.norm(matches[:, 2:] - matches[:, :2], axis=1)) < 3
