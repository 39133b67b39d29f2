"""The preprocessing job: same bytes however it runs, resume, refusals, kills."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from ucn.cluster.session import ray_session
from ucn.errors import UserError
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.preprocessing.sources.kitti.raw import KittiRawConfig


def config(root: Path, out: Path, **options: object) -> KittiRawConfig:
    defaults = {"gaps": (1, 2), "min_matches": 50, "pairs_per_shard": 4, "workers": 0}
    return KittiRawConfig(root=str(root), out=str(out), **defaults | options)


def digests(out: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())
    }


@pytest.fixture(scope="module")
def reference(world_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of all files of an undisturbed run in one process."""
    out = tmp_path_factory.mktemp("reference")
    preprocess(config(world_root, out))
    assert verify_dataset(out) == []
    return digests(out)


def test_totals_add_up(world_root: Path, tmp_path: Path) -> None:
    manifest = preprocess(config(world_root, tmp_path / "out"))
    dataset = ShardDataset(tmp_path / "out")
    assert manifest.totals.samples == len(dataset) == 2 * (7 + 6)
    assert manifest.totals.shards == 7
    assert manifest.totals.matches == sum(map(dataset.matches_of, range(len(dataset))))
    assert len(set(dataset.keys)) == len(dataset)
    assert dataset.sequence_of(0) == "2011_09_26_drive_0001-image_02"


def test_a_rerun_touches_nothing(world_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    preprocess(config(world_root, out))
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    preprocess(config(world_root, out))
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_what_is_lost_or_damaged_is_made_again(
    world_root: Path, tmp_path: Path, reference: dict[str, str]
) -> None:
    out = tmp_path / "out"
    preprocess(config(world_root, out))
    (out / "train-000001.tar").unlink()
    (out / "train-000002.json").unlink()
    (out / "train-000003.json").write_text("{")
    (out / "train-000004.tar").write_bytes(b"short")
    (out / "manifest.json").unlink()
    (out / ".tmp-123-train-000005.tar").write_bytes(b"left by a kill")
    (out / "train-000099.tar").write_bytes(b"no longer planned")
    preprocess(config(world_root, out))
    assert digests(out) == reference


def test_changed_input_is_made_again(world_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    shutil.copytree(world_root, root)
    out = tmp_path / "out"
    preprocess(config(root, out))
    before = digests(out)
    scan = root / "2011_09_26/2011_09_26_drive_0002_sync/velodyne_points/data/0000000007.bin"
    np.fromfile(scan, np.float32).reshape(-1, 4)[::2].tofile(scan)
    preprocess(config(root, out))
    after = digests(out)
    changed = {name for name in before if before[name] != after[name]}
    tar = {"train-000006.tar", "train-000006.json"}
    assert changed == {"card.md", "index.parquet", "manifest.json"} | tar


def test_damaged_frames_are_counted_and_the_rest_goes_on(world_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    shutil.copytree(world_root, root)
    drive = root / "2011_09_26" / "2011_09_26_drive_0001_sync"
    (drive / "velodyne_points/data/0000000000.bin").unlink()
    scan = drive / "velodyne_points/data/0000000002.bin"
    scan.write_bytes(scan.read_bytes()[:-5])
    image = drive / "image_02/data/0000000004.png"
    image.write_bytes(image.read_bytes()[:-50])
    (drive / "oxts/data/0000000006.txt").write_text("nan " * 30)
    manifest = preprocess(config(root, tmp_path / "out"))
    assert manifest.totals.skipped == {
        "missing scan": 2,
        "truncated scan": 3,
        "damaged image": 3,
        "damaged oxts": 2,
    }
    assert manifest.totals.samples == 26 - 10
    assert len(manifest.skipped) == 10
    assert all("drive_0001" in one.key and one.detail for one in manifest.skipped)
    assert verify_dataset(tmp_path / "out") == []


def test_another_configuration_is_refused_unless_it_may_overwrite(
    world_root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    preprocess(config(world_root, out))
    other = {"gaps": (1,), "max_matches": 100}
    with pytest.raises(UserError, match=r"another configuration \(gaps, max_matches differ\)"):
        preprocess(config(world_root, out, **other))
    (out / "manifest.json").unlink()
    with pytest.raises(UserError, match="another configuration"):
        preprocess(config(world_root, out, **other))
    manifest = preprocess(config(world_root, out, overwrite=True, **other))
    assert manifest.totals.samples == 14
    assert verify_dataset(out) == []


def test_nothing_usable_is_an_error_with_the_reasons(world_root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no pair gave a sample: too few matches \(26\)"):
        preprocess(config(world_root, tmp_path / "out", min_matches=10**6))


def test_missing_calibration_is_refused(world_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    shutil.copytree(world_root, root)
    (root / "2011_09_26" / "calib_velo_to_cam.txt").unlink()
    with pytest.raises(UserError, match=r"calib_velo_to_cam\.txt: missing calibration"):
        preprocess(config(root, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_made_is_refused(world_root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="file is in the way"):
        preprocess(config(world_root, tmp_path / "file" / "out"))


@pytest.mark.ray
def test_killed_workers_and_worker_counts_change_no_byte(
    world_root: Path, tmp_path: Path, reference: dict[str, str]
) -> None:
    killed: list[int] = []
    stop = threading.Event()
    with ray_session(2):
        watcher = threading.Thread(
            target=_kill_workers, args=(tmp_path / "killed", killed, stop, 2)
        )
        watcher.start()
        try:
            preprocess(config(world_root, tmp_path / "killed", workers=2))
        finally:
            stop.set()
            watcher.join()
        preprocess(config(world_root, tmp_path / "one", workers=1))
    assert len(killed) == 2, "the test killed no worker"
    assert digests(tmp_path / "killed") == reference
    assert digests(tmp_path / "one") == reference


def _kill_workers(out: Path, killed: list[int], stop: threading.Event, count: int) -> None:
    """Kill workers that are in the middle of a tar."""
    while not stop.is_set() and len(killed) < count:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                busy = (entry / "cmdline").read_bytes().startswith(b"ray::_make_shard")
                busy = busy and any(out.glob(".tmp-*.tar"))
            except OSError:
                continue
            if busy and int(entry.name) not in killed and len(killed) < count:
                with suppress(ProcessLookupError):
                    os.kill(int(entry.name), signal.SIGKILL)
                    killed.append(int(entry.name))
        time.sleep(0.02)


def test_a_killed_driver_resumes_to_the_same_bytes(
    world_root: Path, tmp_path: Path, reference: dict[str, str]
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "ucn.pipeline.main", "preprocess", "kitti-raw"]
    command += ["--root", str(world_root), "--out", str(out), "--gaps", "1", "2"]
    command += ["--min-matches", "50", "--pairs-per-shard", "4", "--workers", "0"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as driver:
        while not list(out.glob("train-*.json")) and driver.poll() is None:
            time.sleep(0.01)
        driver.kill()
    done = len(list(out.glob("train-*.json")))
    assert 0 < done < 7
    assert not (out / "manifest.json").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert digests(out) == reference
