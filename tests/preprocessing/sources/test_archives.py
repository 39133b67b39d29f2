"""Datasets in zip archives: read in place, with the samples of the unpacked files."""

import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.preprocessing.sources.test_sintel import write_sequence
from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.sources import archive
from ucn.preprocessing.sources.archive import ArchivePath
from ucn.preprocessing.sources.base import Source
from ucn.preprocessing.sources.flow.sintel import SintelConfig
from ucn.preprocessing.sources.input_files import file_state
from ucn.preprocessing.sources.kitti.raw import KittiRawConfig

DATE = "2011_09_26"
SYNC = f"{DATE}_drive_0001_sync"


def pack(target: Path, root: Path, wanted: Callable[[Path], bool]) -> Path:
    """Zip the wanted files below a root, under their paths relative to it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(root.rglob("*")):
            if path.is_file() and wanted(path):
                file.write(path, path.relative_to(root))
    return target


def pack_drive(root: Path, folder: Path, drive: str) -> None:
    """The archives that KITTI's homepage offers for a drive."""
    name = f"{DATE}_drive_{drive}"
    inside, labels = f"{name}_sync", "tracklet_labels.xml"
    pack(folder / f"{inside}.zip", root, lambda p: inside in p.parts and p.name != labels)
    pack(folder / f"{name}_tracklets.zip", root, lambda p: inside in p.parts and p.name == labels)


def pack_calibration(root: Path, folder: Path) -> None:
    pack(folder / f"{DATE}_calib.zip", root, lambda path: path.name.startswith("calib_"))


@pytest.fixture(scope="module")
def raw(world_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two drives without their truth."""
    root = tmp_path_factory.mktemp("unpacked")
    shutil.copytree(world_root / DATE, root / DATE)
    return root


def kitti(root: Path, **options: object) -> KittiRawConfig:
    return KittiRawConfig(root=str(root), out="unused", gaps=(1,), min_matches=1, **options)


def samples(source: Source, step: int = 1) -> dict[str, bytes]:
    return {source.key(pair): pickle.dumps(source.load(pair)) for pair in source.pairs()[::step]}


@pytest.mark.parametrize(
    "layout", ["root", "days", "mixed", "tracklets", "one archive", "day archive"]
)
def test_archives_give_the_samples_of_the_unpacked_files(
    raw: Path, tmp_path: Path, layout: str
) -> None:
    root = tmp_path
    if layout == "one archive":
        root = pack(tmp_path / "kitti.ZIP", raw, lambda path: True)
    elif layout == "day archive":
        pack(tmp_path / f"{DATE}.zip", raw, lambda path: True)
    elif layout == "mixed":
        shutil.copytree(raw / DATE, root / DATE, ignore=shutil.ignore_patterns("*0002_sync"))
        pack_drive(raw, root, "0002")
    elif layout == "tracklets":
        only = shutil.ignore_patterns("image_*", "oxts", "velodyne_points")
        shutil.copytree(raw / DATE, root / DATE, ignore=only)
        for drive in ("0001", "0002"):
            pack_drive(raw, root, drive)
            (root / f"{DATE}_drive_{drive}_tracklets.zip").unlink()
    else:
        folder = root / DATE if layout == "days" else root
        pack_calibration(raw, folder)
        for drive in ("0001", "0002"):
            pack_drive(raw, folder, drive)
    before = sorted(tmp_path.rglob("*"))
    assert samples(kitti(root).open_source(), 4) == samples(kitti(raw).open_source(), 4)
    assert sorted(tmp_path.rglob("*")) == before


def test_shards_from_archives_are_those_of_the_unpacked_files(raw: Path, tmp_path: Path) -> None:
    pack_calibration(raw, tmp_path / "zip")
    pack_drive(raw, tmp_path / "zip", "0001")
    tars = []
    for root, out in ((raw, tmp_path / "a"), (tmp_path / "zip", tmp_path / "b")):
        preprocess(kitti(root, drives=("0001",), workers=0).model_copy(update={"out": str(out)}))
        tars.append((out / "train-000000.tar").read_bytes())
    assert tars[0] == tars[1]


def test_a_reader_opens_its_archive_where_it_is_unpickled(raw: Path, tmp_path: Path) -> None:
    pack_calibration(raw, tmp_path)
    pack_drive(raw, tmp_path, "0001")
    source = kitti(tmp_path).open_source()
    pairs = source.pairs()[:2]
    expected = [pickle.dumps(source.load(pair)) for pair in pairs]
    data = pickle.dumps(source.reader(pairs))
    for other in ("calib", "drive_0001_tracklets"):
        (tmp_path / f"{DATE}_{other}.zip").unlink()
    archive._open.cache_clear()
    reader = pickle.loads(data)
    assert [pickle.dumps(reader.load(pair)) for pair in pairs] == expected
    assert len(data) < 20_000


def test_tracklets_alone_are_no_drive(raw: Path, tmp_path: Path) -> None:
    pack_calibration(raw, tmp_path)
    pack_drive(raw, tmp_path, "0001")
    pack_drive(raw, tmp_path, "0002")
    (tmp_path / f"{DATE}_drive_0002_sync.zip").unlink()
    sequences = {pair.sequence for pair in kitti(tmp_path).open_source().pairs()}
    assert sequences == {f"{DATE}_drive_0001-image_02"}


def test_the_archive_of_an_unpacked_drive_is_not_read(raw: Path, tmp_path: Path) -> None:
    shutil.copytree(raw / DATE, tmp_path / DATE)
    (tmp_path / f"{SYNC}.zip").write_bytes(b"half a download")
    pair = kitti(tmp_path).open_source().pairs()[0]
    assert kitti(tmp_path).open_source().input_fingerprint(pair) == (
        kitti(raw).open_source().input_fingerprint(pair)
    )


def test_a_fingerprint_changes_with_the_content(raw: Path, tmp_path: Path) -> None:
    shutil.copytree(raw / DATE, tmp_path / "a" / DATE)
    root = pack(tmp_path / "kitti.zip", tmp_path / "a", lambda path: True)
    pair = kitti(root).open_source().pairs()[0]
    before = kitti(root).open_source().input_fingerprint(pair)
    assert kitti(root).open_source().input_fingerprint(pair) == before
    scan = tmp_path / "a" / DATE / SYNC / "velodyne_points" / "data" / f"{pair.frame0}.bin"
    scan.write_bytes(bytes(scan.stat().st_size))
    pack(root, tmp_path / "a", lambda path: True)
    assert kitti(root).open_source().input_fingerprint(pair) != before


def damage(path: Path, member: str) -> None:
    """Overwrite the middle of a stored or compressed member."""
    with zipfile.ZipFile(path) as file:
        info = file.getinfo(member)
    data = bytearray(path.read_bytes())
    middle = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
    data[middle : middle + 64] = bytes(64)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (
            "image_02/data/0000000001.png",
            "unreadable image: 0000000001.png: damaged in its archive",
        ),
        ("velodyne_points/data/0000000001.bin", "unreadable scan: 0000000001.bin: damaged in"),
        ("oxts/data/0000000001.txt", "damaged oxts: 0000000001.txt: damaged in its archive"),
    ],
)
def test_damaged_members_are_skipped(raw: Path, tmp_path: Path, member: str, reason: str) -> None:
    pack_calibration(raw, tmp_path)
    pack_drive(raw, tmp_path, "0001")
    damage(tmp_path / f"{SYNC}.zip", f"{DATE}/{SYNC}/{member}")
    source = kitti(tmp_path).open_source()
    first, second, third = source.pairs()[:3]
    for pair in (first, second):
        with pytest.raises(SkippedPair, match=reason):
            source.load(pair)
    source.load(third)


def test_damaged_small_files_are_named(raw: Path, tmp_path: Path) -> None:
    for name, member in (("calib", "calib_velo_to_cam.txt"), ("tracklets", "tracklet_labels.xml")):
        root = tmp_path / name
        pack_calibration(raw, root)
        pack_drive(raw, root, "0001")
        file = next(root.glob(f"*{name}.zip"))
        damage(file, f"{DATE}/{member}" if name == "calib" else f"{DATE}/{SYNC}/{member}")
        with pytest.raises(UserError, match=rf"{member}: .*damaged in its archive.*; "):
            kitti(root).open_source().pairs()


def test_damaged_and_encrypted_archives_are_refused(raw: Path, tmp_path: Path) -> None:
    pack_calibration(raw, tmp_path)
    pack_drive(raw, tmp_path, "0001")
    path = tmp_path / f"{SYNC}.zip"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        UserError, match=rf"{path.name}: cannot be read as a zip archive .*download"
    ):
        kitti(tmp_path).open_source()
    encrypted = bytearray(whole)
    encrypted[whole.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(encrypted)
    with pytest.raises(UserError, match=rf"{path.name}: is encrypted; unpack it"):
        kitti(tmp_path).open_source()


@pytest.mark.parametrize("root", ["", "MPI-Sintel-complete.zip"])
def test_sintel_in_its_archive(tmp_path: Path, root: str) -> None:
    unpacked = tmp_path / "unpacked"
    write_sequence(unpacked / "training", "alley_1", 3, ("clean", "final"), cameras=True)
    pack(tmp_path / "MPI-Sintel-complete.zip", unpacked, lambda path: True)
    packed, plain = (
        SintelConfig(root=str(place), out="unused", min_matches=1).open_source()
        for place in (tmp_path / root, unpacked)
    )
    assert packed.pairs() == plain.pairs()
    assert samples(packed) == samples(plain)
    damage(tmp_path / "MPI-Sintel-complete.zip", "training/flow/alley_1/frame_0001.flo")
    damage(tmp_path / "MPI-Sintel-complete.zip", "training/clean/alley_1/frame_0003.png")
    packed = SintelConfig(root=str(tmp_path), out="unused").open_source()
    for pair, reason in zip(
        packed.pairs()[1:3],
        ("damaged flow: flow/.*damaged in its", "unreadable image: clean/.*damaged in its"),
        strict=True,
    ):
        with pytest.raises(SkippedPair, match=reason):
            packed.load(pair)


def test_a_path_into_an_archive_is_as_the_unpacked_one(raw: Path, tmp_path: Path) -> None:
    packed = ArchivePath(pack(tmp_path / "a.zip", raw, lambda path: "0001" in str(path)))
    plain = tmp_path / "unpacked"
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        file.extractall(plain)
    inside = [path.relative_to(plain) for path in sorted(plain.rglob("*"))][::5]
    for name in (Path(), *inside, Path("absent"), Path(DATE, "absent", "deep")):
        one, other = packed / name, plain / name
        assert pickle.loads(pickle.dumps(one)) == one
        assert (one.exists(), one.is_dir(), one.is_file()) == (
            (other.exists(), other.is_dir(), other.is_file())
        )
        for act in (lambda p: p.read_bytes(), lambda p: p.open("rb").read()):
            assert attempt(act, one) == attempt(act, other)
        assert attempt(lambda p: sorted(child.name for child in p.iterdir()), one) == (
            attempt(lambda p: sorted(child.name for child in p.iterdir()), other)
        )
        if other.is_file():
            assert one.stat().st_size == other.stat().st_size == file_state(other)
            assert file_state(one)[0] == other.stat().st_size
    assert file_state(packed / "absent") == -1


def attempt(act: Callable[[Path], object], path: Path) -> object:
    try:
        return act(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        return type(error) if path.exists() else FileNotFoundError
