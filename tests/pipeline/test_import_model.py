"""`ucn import`: files in the layouts of Open-UCN and torchvision become models."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from ucn.pipeline.main import main
from ucn.training.model import load_model
from ucn.training.networks.base import DenseNetwork
from ucn.training.networks.googlenet import GoogLeNetUCN
from ucn.training.networks.resunet import ResUNetUCN

PUBLISHERS = ("open-ucn", "torchvision-googlenet")
Write = Callable[[str], tuple[Path, DenseNetwork]]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], one_thread: None) -> Run:
    def run_command(*args: object) -> tuple[int, str, str]:
        code = main([*map(str, args)])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run_command


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a checkpoint in a publisher's layout; return it, and a network that has its weights."""

    def write_checkpoint(publisher: str) -> tuple[Path, DenseNetwork]:
        torch.manual_seed(0)
        path = tmp_path / f"{publisher}.pth"
        if publisher == "open-ucn":
            network: DenseNetwork = ResUNetUCN("BN2F", 12, centred=False)
            optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
            content: Any = {
                "epoch": 100,
                "state_dict": network.state_dict(),
                "optimizer": optimiser.state_dict(),
                "config": argparse.Namespace(model="ResUNetBN2F", model_n_out=12),
                "best_val": 0.5,
            }
        else:
            network = GoogLeNetUCN(head=False)
            later = {"inception4b.branch1.conv.weight": torch.zeros(160, 512, 1, 1)}
            later["fc.bias"] = torch.zeros(1000)
            content = dict(network.state_dict()) | later
        torch.save(content, path)
        return path, network.eval()

    return write_checkpoint


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """A scene, and the same moved by (16, 8) pixels, in colour."""
    noise = np.random.default_rng(1).random((200, 240, 3))
    scene = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    paths = [tmp_path / f"{number}.png" for number in (0, 1)]
    for path, (dx, dy) in zip(paths, ((0, 0), (16, 8)), strict=True):
        cv2.imwrite(str(path), scene[30 - dy : 150 - dy, 40 - dx : 200 - dx].astype(np.uint8))
    return paths


@pytest.mark.parametrize("publisher", PUBLISHERS)
def test_the_model_has_the_features_of_the_checkpoint_and_matches(
    publisher: str, write: Write, run: Run, photos: list[Path], tmp_path: Path
) -> None:
    file, network = write(publisher)
    out = tmp_path / "models" / "imported"
    code, printed, _ = run("import", publisher, file, "--out", out)
    assert code == 0
    said = json.loads(printed)
    assert (said["model"], said["descriptor_dimension"]) == (str(out), network.dimension)
    model = load_model(out)
    assert model.config.training["imported"] == publisher
    assert len(model.config.training["sha256"]) == 64
    image = np.asarray(cv2.imread(str(photos[0])))[..., ::-1]
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255
    if network.channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        pixels = torch.from_numpy(image)[None, None] / 255
    with torch.no_grad():
        expected = network(pixels)[0]
    found = model.extract(np.ascontiguousarray(image)).dense.map_DHW
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    matches = tmp_path / "matches.npz"
    options = ("--model", out, "--out", matches, "--keypoints", 60)
    assert run("match", *photos, *options)[0] == 0
    with np.load(matches) as content:
        shift = np.median(content["matches"][:, 2:] - content["matches"][:, :2], axis=0)
    assert np.linalg.norm(shift - [16, 8]) <= 4


@pytest.mark.ray
def test_imported_models_are_evaluated(
    write: Write, run: Run, photos: list[Path], tmp_path: Path
) -> None:
    shards = tmp_path / "shards"
    words = ("homography", "--root", photos[0].parent, "--size", 128, 96, "--images", "rgb-png")
    options = ("--workers", 0, "--pairs-per-photo", 1, "--min-matches", 20, "--max-matches", 300)
    assert run("preprocess", *words, "--out", shards, *options)[0] == 0
    models = []
    for publisher in PUBLISHERS:
        file, _ = write(publisher)
        assert run("import", publisher, file, "--out", tmp_path / publisher)[0] == 0
        models.append(f"{publisher}={tmp_path / publisher}")
    places = ("--output", tmp_path / "report", "--json", tmp_path / "scores.json")
    words = ("--model", *models, "--shards", shards, "--points", 20, "--baselines", "daisy")
    quick = ("tracking.enabled=false", "pose.estimators=[]", "pictures=0", "workers=1")
    code, _, err = run("evaluate", *quick, *words, *places)
    assert code == 0, err
    scores = json.loads((tmp_path / "scores.json").read_text())
    for name in ("pck/10", "model/torchvision-googlenet/pck/10"):
        assert 0 < scores[name] <= 100


def damage(file: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(file, weights_only=True)
    change(content.get("state_dict", content))
    torch.save(content, file)


@pytest.mark.parametrize("publisher", PUBLISHERS)
def test_other_files_are_refused_in_one_line(
    publisher: str, write: Write, run: Run, tmp_path: Path
) -> None:
    file, _ = write(publisher)
    other, _ = write(PUBLISHERS[1 - PUBLISHERS.index(publisher)])
    (tmp_path / "text.pth").write_text("Not Found")
    (tmp_path / "taken").mkdir()
    wrong, huge, lacking = (tmp_path / f"{name}.pth" for name in ("wrong", "huge", "lacking"))
    for path in (wrong, huge, lacking):
        path.write_bytes(file.read_bytes())
    first = "conv1.weight" if publisher == "open-ucn" else "conv1.conv.weight"
    damage(wrong, lambda state: state.update({first: torch.zeros(16, 1, 5, 5)}))
    damage(lacking, lambda state: state.pop(first))
    last = "final.weight" if publisher == "open-ucn" else "conv2.conv.weight"
    damage(huge, lambda state: state.update({last: torch.zeros(1).expand(10**9, 16, 1, 1)}))
    cases = [
        (tmp_path / "none.pth", "out", "none.pth: no such file; "),
        (tmp_path / "text.pth", "out", "text.pth: damaged, or no weights"),
        (other, "out", f"{other.name}: no checkpoint of {publisher} ("),
        (wrong, "out", f"wrong.pth: no checkpoint of {publisher} ({first} "),
        (lacking, "out", f"lacking.pth: no checkpoint of {publisher} ("),
        (huge, "out", "huge.pth: a tensor has less data than its shape"),
        (file, "taken", "taken: exists; give another --out"),
    ]
    for path, out, message in cases:
        code, printed, err = run("import", publisher, path, "--out", tmp_path / out)
        assert (code, printed) == (2, "")
        assert message in err
        assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert run("import", "open-ncu", file, "--out", tmp_path / "out")[0] == 2
