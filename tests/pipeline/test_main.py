"""The command line: exit codes, one-line errors, light start."""

import inspect
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import pytest

from ucn.evaluation.methods.baselines.registry import BASELINES
from ucn.pipeline.main import main
from ucn.preprocessing.sources.registry import SOURCES
from ucn.training.config import NetworkConfig
from ucn.training.registry import NETWORKS

COMMANDS = ["preprocess", "inspect", "verify", "train", "evaluate", "match", "run", "demo"]
COMMANDS += ["submit", "status", "doctor", "sync", "import", "presets", "baselines"]


def ucn(capfd: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = main([str(arg) for arg in args])
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def refused(capfd: pytest.CaptureFixture[str], *args: object) -> str:
    """The one line with which a command refuses."""
    code, out, err = ucn(capfd, *args)
    lines = [line for line in err.splitlines() if "pair/s" not in line and line.strip()]
    assert (code, out, len(lines)) == (2, "", 1), (code, out, err)
    assert "Traceback" not in err
    assert lines[0].startswith("ucn: ")
    return lines[0]


def test_help_lists_every_command(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ucn(capfd, "--help")
    assert code == 0
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capfd: pytest.CaptureFixture[str], command: str) -> None:
    try:
        code = main([command, "--help"])
    except SystemExit as end:
        code = end.code
    assert code in (0, None)
    assert f"ucn {command}" in capfd.readouterr().out


def test_the_version_is_that_of_the_package(capfd: pytest.CaptureFixture[str]) -> None:
    assert ucn(capfd, "--version") == (0, f"ucn {version('ucn')}\n", "")


def test_every_source_baseline_and_preset_has_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    presets = [path.stem for path in (Path(__file__).parents[2] / "configs").glob("*.yaml")]
    for args, names in (
        (["preprocess", "--help"], SOURCES.builtin),
        (["baselines"], BASELINES.builtin),
        (["presets"], presets),
    ):
        code, out, _ = ucn(capfd, *args)
        lines = out.splitlines()
        assert code == 0
        for name in names:
            (line,) = [line for line in lines if line.startswith(f"  {name} ")]
            assert len(line.split()) > 2, line


@pytest.mark.parametrize("columns", [50, 80, 300])
def test_help_fits_the_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in ("train", "evaluate", "match", "submit"):
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        lines = capfd.readouterr().out.splitlines()
        assert end.value.code == 0
        texts = [line for line in lines if line.startswith("      ")]
        assert max(map(len, texts)) <= min(columns, 100)
        assert not [line for line in lines if "None}" in line or "default: )" in line]


def test_help_names_every_option_of_a_network() -> None:
    text = NetworkConfig.model_fields["options"].description or ""
    for name in NETWORKS.builtin:
        (named,) = re.findall(rf"`{name}`: ([^;.]*)[;.]", " ".join(text.split()))
        options = inspect.signature(NETWORKS.load(name)).parameters
        assert re.findall(r"`(\w+)`", named) == list(options)


def test_the_command_line_starts_without_the_heavy_packages() -> None:
    code = (
        "import sys, ucn.pipeline.main; "
        "print([n for n in ('torch', 'ray', 'mlflow', 'cv2', 'matplotlib') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["nope"], "nope: unknown command"),
        (["trian"], "did you mean train?"),
        (["preprocess", "kitti_raw"], "did you mean kitti-raw?"),
        (["evaluate", "x", "--baselines", "sfit"], "did you mean sift?"),
        (["preprocess", "nope"], "nope: no such source; there are kitti-raw"),
        (["preprocess", "kitti-raw"], "--root"),
        (["preprocess", "kitti-raw", "--root", "a", "--out", "b", "--bogus"], "--bogus"),
        (["preprocess", "kitti-raw", "--root", "a", "--out", "b", "--gaps", "0"], "gaps"),
        (["preprocess", "kitti-raw", "--root", "a", "--out", "b", "--camera", "7"], "camera"),
        (
            ["preprocess", "kitti-raw", "--root", "/nowhere", "--out", "b"],
            "/nowhere: no such folder",
        ),
        (["verify", "/nowhere"], "/nowhere: no such folder of shards"),
        (["inspect", "/nowhere", "--save", "x.png"], "/nowhere: no such folder of shards"),
        (["run", "--config", "/nowhere.yaml"], "/nowhere.yaml: no such file"),
        (["run", "--config"], "--config: names no file"),
        (["run", "--bogus"], "--bogus"),
        (["run", "out=x", "shards.val.source=motorcycle"], "no split train"),
        (["run", "out=x", "shards.train.source=motorcycle"], "no split to evaluate"),
        (["run", "out=x", "shards.train.source=nope", "shards.val.source=motorcycle"], "nope"),
        (["run", "out=s3://b/x", "shards.train.source=motorcycle"], "out: s3://b/x is an address"),
        (["run", "out=x", "shards=5"], "shards: 5 is not"),
        (["run", "out=x", "shards.train=5", "shards.val="], "train: 5 is not"),
        (["evaluate", "--shards", "x", "--output", "s3://b/x"], "output: s3://b/x is an address"),
        (["train", "stepz=3"], "stepz: no such option"),
        (["train", "steps=many"], "steps"),
        (["train", "data.shards=/nowhere"], "/nowhere"),
        (["evaluate", "--shards", "/nowhere"], "/nowhere"),
        (["match", "/no.png", "/no.png", "--model", "/nowhere"], "/no.png"),
    ],
)
def test_mistakes_are_refused_in_one_line(
    capfd: pytest.CaptureFixture[str], args: list[str], named: str
) -> None:
    assert named in refused(capfd, *args)


def test_bad_yaml_is_refused(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for text in ("a: [", "just words", "- 1"):
        (tmp_path / "c.yaml").write_text(text)
        assert "c.yaml" in refused(capfd, "train", "--config", tmp_path / "c.yaml")


def test_a_folder_of_another_dataset_is_refused(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "training" / "clean").mkdir(parents=True)
    line = refused(capfd, "preprocess", "kitti-raw", "--root", tmp_path, "--out", tmp_path / "out")
    assert "is it KITTI raw, synced?" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_output_is_refused(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    line = refused(capfd, "preprocess", "motorcycle", "--out", tmp_path / "out")
    assert "cannot be written" in line


def test_the_motorcycle_pair_end_to_end(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "shards"
    code, printed, _ = ucn(
        capfd, "preprocess", "motorcycle", "--out", out, "--workers", 0, "--max-matches", 5000
    )
    assert code == 0
    assert json.loads(printed)["matches"] == 5000

    code, printed, _ = ucn(capfd, "verify", out)
    assert (code, "sound, 1 sample, 5,000 matches" in printed) == (0, True)

    for key in ([], ["--sample", "motorcycle-left-right"]):
        code, _, _ = ucn(capfd, "inspect", out, "--save", tmp_path / "p.png", *key)
        assert code == 0
        picture = cv2.imread(str(tmp_path / "p.png"))
        assert picture.shape[1] > 600
        assert np.ptp(picture) > 100
    assert "no sample 'zz'" in refused(
        capfd, "inspect", out, "--sample", "zz", "--save", tmp_path / "p.png"
    )
    assert "change the ending" in refused(capfd, "inspect", out, "--save", tmp_path / "p.gif")

    tar = out / "train-000000.tar"
    tar.write_bytes(tar.read_bytes()[:-2048])
    code, printed, err = ucn(capfd, "verify", out)
    assert code == 1
    assert "train-000000.tar" in printed
    assert "Traceback" not in err


def test_a_fault_is_one_plain_line_that_ends_with_its_cause(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("\x1b[36mray::work()\x1b[39m\n" + "  File\n" * 200 + "KeyError: 'x'")

    monkeypatch.delenv("UCN_DEBUG", raising=False)
    monkeypatch.setattr("ucn.pipeline.commands._run", fail)
    assert main(["demo"]) == 1
    line = capfd.readouterr().err
    assert line.startswith("ucn: fault: RuntimeError: ray::work() File")
    assert "KeyError: 'x'; please report it" in line
    assert len(line) < 600
    assert line.count("\n") == 1
