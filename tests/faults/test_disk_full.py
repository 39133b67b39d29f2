"""The disk is full in the middle of a shard, a manifest, a checkpoint, a model: a real small one.

Each time the same command is given again once there is room, and nothing is lost.
"""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.faults.drives import digests, drives_config, preprocess_words
from tests.faults.mounts import PAGE, mounted, pages, resize
from tests.faults.noise_training import CHECKPOINT_EVERY, noise_config, undisturbed
from tests.tell import tell
from ucn.cluster.session import ray_session
from ucn.errors import UserError
from ucn.pipeline.main import main
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.storage.arrow import ArrowStore
from ucn.storage.s3 import S3Store
from ucn.storage.stores import Store, write_bytes
from ucn.training.config import NetworkConfig
from ucn.training.loop.checkpoint import STATE, load_checkpoint, save_checkpoint
from ucn.training.model import WEIGHTS, load_model, save_model
from ucn.training.networks import build_network

ROOM = 64 << 20
LEASE_BYTES = PAGE
FULL = ": the disk is full; free some space and run again"


@pytest.fixture(scope="module")
def reference(world_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run."""
    out = tmp_path_factory.mktemp("reference")
    preprocess(drives_config(world_root, out))
    return out


def room_until(reference: Path, name: str, fraction: float) -> int:
    """Bytes of a disk on which a run gets through a fraction of a file, in the order of writing."""
    shards = sorted(path.name for path in reference.glob("train-*.tar"))
    order = [one for tar in shards for one in (tar, tar.replace(".tar", ".json"))]
    order += ["index.parquet", "skipped.parquet", "manifest.json", "card.md"]
    sizes = [(reference / one).stat().st_size for one in order]
    before = sum(map(pages, sizes[: order.index(name)]))
    inside = int(fraction * sizes[order.index(name)]) // PAGE * PAGE
    return LEASE_BYTES + before + inside


@pytest.mark.parametrize(
    ("name", "fraction"),
    [
        ("train-000000.tar", 0.0),
        ("train-000000.tar", 0.5),
        ("train-000002.tar", 0.9),
        ("train-000002.json", 0.5),
        ("index.parquet", 0.0),
        ("skipped.parquet", 0.0),
        ("manifest.json", 0.0),
    ],
)
def test_a_disk_full_while_shards_are_made(
    world_root: Path,
    tmp_path: Path,
    reference: Path,
    name: str,
    fraction: float,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = digests(reference)
    with mounted(tmp_path / "disk", room_until(reference, name, fraction)) as disk:
        words = preprocess_words(drives_config(world_root, disk))
        assert main(words) == 2
        assert capsys.readouterr().err.splitlines()[-1] == f"ucn: {disk / name}{FULL}"
        # Whole or not at all, and nothing half-written under any name.
        assert digests(disk).items() < expected.items()
        assert not (disk / "manifest.json").exists()
        resize(disk, ROOM)
        assert main(words) == 0
        assert digests(disk) == expected
        assert verify_dataset(disk) == []


def test_a_disk_too_full_to_begin(
    world_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disk", PAGE) as disk:
        (disk / "full").write_bytes(bytes(PAGE))
        assert main(preprocess_words(drives_config(world_root, disk / "out"))) == 2
        assert capsys.readouterr().err == f"ucn: {disk / 'out' / '.lease'}{FULL}\n"
        assert [path.name for path in disk.iterdir()] == ["full"]


@pytest.mark.parametrize("store", [S3Store("s3://pairs/x"), ArrowStore("gs://pairs/x")])
def test_what_is_finished_before_it_is_uploaded_has_no_room(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mounted(tmp_path / "disk", 4 * PAGE) as disk:
        monkeypatch.setattr("tempfile.tempdir", str(disk))
        with pytest.raises(UserError, match=f"^{disk}{FULL}$"):
            write_bytes(store, "train-000000.tar", bytes(8 * PAGE))
        assert list(disk.iterdir()) == []


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.5, 0.98])
def test_a_disk_full_while_a_checkpoint_is_written(tmp_path: Path, fraction: float) -> None:
    snapshot = {"step": 7, "network": {"a": torch.arange(1 << 18), "b": torch.ones(3)}}
    with mounted(tmp_path / "disk", ROOM) as disk:
        save_checkpoint(disk / "first", snapshot | {"step": 6})
        size = pages((disk / "first" / STATE).stat().st_size)
        resize(disk, size + int(fraction * size))
        with pytest.raises(UserError, match=f"^{disk / 'second' / STATE}{FULL}$"):
            save_checkpoint(disk / "second", snapshot)
        assert list((disk / "second").iterdir()) == []
        assert load_checkpoint(disk / "first")["step"] == 6
        resize(disk, ROOM)
        save_checkpoint(disk / "second", snapshot)
        found = load_checkpoint(disk / "second")
        torch.testing.assert_close(found["network"], snapshot["network"], rtol=0, atol=0)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_a_disk_full_while_a_model_is_published(tmp_path: Path, fraction: float) -> None:
    config = NetworkConfig(options={"width": 16, "dimension": 16})
    network = build_network(config.name, config.options)
    with mounted(tmp_path / "disk", ROOM) as disk:
        save_model(disk / "model", network, config, scores={"pck/5": 1.0})
        before = digests(disk / "model")
        weights = pages((disk / "model" / "model.safetensors").stat().st_size)
        resize(disk, weights + PAGE + int(fraction * weights))
        with pytest.raises(UserError, match=f"^{disk / 'model'}.*{FULL}$"):
            save_model(disk / "model", network, config, scores={"pck/5": 2.0})
        assert [path.name for path in disk.iterdir()] == ["model"]
        assert digests(disk / "model") == before
        resize(disk, ROOM)
        save_model(disk / "model", network, config, scores={"pck/5": 2.0})
        assert load_model(disk / "model").config.scores == {"pck/5": 2.0}


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.usefixtures("one_thread")
@pytest.mark.timeout(1800)
def test_a_disk_full_in_the_middle_of_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of what a run writes: a checkpoint by a thread beside the steps, and Ray's record of it."""
    config = noise_config(tmp_path, 4 * CHECKPOINT_EVERY, workers=1, min_workers=None)
    weights, _ = undisturbed(config)

    def train(output: Path) -> int:
        file = tmp_path / "train.yaml"
        values = config.model_copy(update={"output": output}).model_dump(mode="json")
        file.write_text(yaml.safe_dump(values))
        return main(["train", "--config", str(file)])

    with ray_session(1):
        assert train(tmp_path / "calm") == 0
        checkpoint = next((tmp_path / "calm").rglob(STATE)).stat().st_size
        own = LEASE_BYTES + PAGE
        rooms = {
            "the first checkpoint": own + checkpoint // 2,
            "Ray's record": own + pages(checkpoint),
            "the second checkpoint": own + PAGE + pages(checkpoint) + checkpoint // 2,
        }
        for number, (what, room) in enumerate(rooms.items()):
            with mounted(tmp_path / f"disk-{number}", room) as disk:
                capsys.readouterr()
                assert train(disk / "run") == 2, what
                said = capsys.readouterr().err.splitlines()[-1]
                assert said.startswith(f"ucn: {disk / 'run'}")
                assert said.endswith(FULL)
                kept = [load_checkpoint(path.parent)["step"] for path in disk.rglob(STATE)]
                assert not list(disk.rglob(".tmp-*"))
                resize(disk, ROOM)
                assert train(disk / "run") == 0, what
                found = load_file(disk / "run" / "model" / WEIGHTS)
                lost = [name for name, one in weights.items() if not found[name].equal(one)]
            with capsys.disabled():
                tell(
                    f"disk full at {what}: told in one line, checkpoints kept {kept}; after space "
                    f"was freed {len(lost)} of {len(weights)} weights differ"
                )
            assert not lost
