"""benchmarks/gpu_check.py goes on where it stopped, and needs few packages."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
VERSIONS = {"device": "cpu", "quick": True, "torch": "2"}
ABSENT = ("ray", "mlflow", "pyarrow", "boto3", "pykitti", "skimage", "scipy", "pycolmap", "poselib")


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu_check

    arguments = ["gpu_check.py", "--out", str(tmp_path), "--device", "cpu", "--quick"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(gpu_check, "versions", lambda options: VERSIONS)
    return gpu_check


def write_results(check: ModuleType, folder: Path, **changes: Any) -> Path:
    row = {"measured": "3 ms", "reference": "6 ms", "ratio": 2.0, "check": "same", "holds": True}
    rows = {part: dict.fromkeys(names, row) for part, names in check.all_rows(VERSIONS).items()}
    path = folder / "gpu_check.json"
    path.write_text(json.dumps({"versions": VERSIONS} | rows | changes))
    return path


def run(check: ModuleType) -> int | str | None:
    with pytest.raises(SystemExit) as exit_:
        check.main()
    return exit_.value.code


def test_finished_rows_are_kept(
    check: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(check, tmp_path)
    assert run(check) == 0
    text = capsys.readouterr().out
    assert "| step | googlenet | 3 ms | 6 ms | 2.00 | same |" in text
    assert text == (tmp_path / "gpu_check.md").read_text()


def test_what_does_not_hold_or_fails_is_named(
    check: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = {"measured": "3 ms", "reference": "6 ms", "ratio": 2.0, "check": "off", "holds": False}
    write_results(check, tmp_path, distributed={"2 processes": row}, loader={})
    monkeypatch.setattr(check, "run_part", lambda part, folder: f"no {part}")
    assert run(check) == 1
    text = capsys.readouterr().out
    assert "**FAILED**: off" in text
    assert "| loader | | **FAILED**: no loader |" in text
    assert "no step" not in text


def test_results_of_other_versions_are_refused(
    check: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_results(check, tmp_path, versions=VERSIONS | {"torch": "1"})
    before = path.read_text()
    assert run(check) == 2
    assert str(path) in capsys.readouterr().err
    assert path.read_text() == before


def test_a_part_that_ends_early_is_a_failure(check: ModuleType, tmp_path: Path) -> None:
    sys.argv.append("--wrong")  # the fixture's list
    assert check.run_part("step", tmp_path).startswith("exit code 2: ")


def test_imports_without_ray_mlflow_and_arrow() -> None:
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({ABSENT}))\n"
        f"sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "import gpu_check"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
