"""Raw datasets from a stranger: their files are read, within limits, and no others."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from ucn.errors import SkippedPair, UserError
from ucn.images.flow_files import read_flow
from ucn.images.read import read_photo
from ucn.images.size import MAX_PIXELS, declared_size
from ucn.pipeline.match import read_photo as read_users_photo
from ucn.preprocessing.sources.flow.layouts import find_flow_pairs
from ucn.preprocessing.sources.kitti.files import read_tracklets
from ucn.storage.hdf5_files import read_datasets

SIDE = 60_000


def headers(side: int) -> dict[str, bytes]:
    """Images of ``side`` x ``side`` pixels, as far as their headers say."""
    ends = b"IEND\xaeB`\x82"
    frame = struct.pack(">BHHBBBB", 8, side, side, 1, 1, 0x11, 0)
    extended = (side - 1).to_bytes(3, "little") * 2
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, side) for tag in (256, 257))
    return {
        "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
        + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        + ends,
        "jpg": b"\xff\xd8\xff\xe0\0\4ab\xff\xff\xff\xc2\0\x0b" + frame + b"\xff\xd9",
        "webp": b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + extended,
        "tif": b"II*\0\x08\0\0\0\2\0" + entries,
        "bmp": b"BM" + bytes(12) + struct.pack("<Iii", 40, side, -side),
        "gif": b"GIF89a" + struct.pack("<HH", side, side),
        "ppm": f"P6 # from afar\n{side}\n# further\n{side} 255\n".encode(),
    }


@pytest.mark.parametrize("kind", sorted(headers(SIDE)))
def test_photos_too_large_to_be_any_are_refused_by_their_header(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", None)
    path = tmp_path / f"photo.{kind}"
    path.write_bytes(headers(SIDE)[kind])
    said = f"{SIDE} x {SIDE} pixels, more than 200 megapixels"
    with pytest.raises(SkippedPair, match=f"damaged image: photo.{kind}: .*{said}"):
        read_photo(path, tmp_path)
    with pytest.raises(UserError, match=said) as error:
        read_users_photo(path)
    assert "\n" not in str(error.value)


def test_a_flow_too_large_to_be_any_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", None)
    (tmp_path / "flow.png").write_bytes(headers(SIDE)["png"])
    with pytest.raises(SkippedPair, match=r"damaged flow: .*more than 200 megapixels"):
        read_flow(tmp_path / "flow.png", tmp_path)
    (tmp_path / "flow.flo").write_bytes(b"PIEH" + struct.pack("<ii", SIDE, SIDE))
    with pytest.raises(SkippedPair, match=r"damaged flow: .*60000x60000 takes"):
        read_flow(tmp_path / "flow.flo", tmp_path)


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        (".png", []),
        (".jpg", []),
        (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        (".webp", [cv2.IMWRITE_WEBP_QUALITY, 50]),
        (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
        (".tif", []),
        (".bmp", []),
        (".gif", []),
        (".ppm", []),
        (".pgm", []),
    ],
)
@pytest.mark.parametrize("size", [(37, 53), (300, 1)])
def test_what_a_header_says_is_what_is_decoded(
    ending: str, options: list[int], size: tuple[int, int], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size[::-1], 3), np.uint8)
    image = image[..., 0] if ending == ".pgm" else image
    data = cv2.imencode(ending, image, options)[1].tobytes()
    assert declared_size(data) == size
    (tmp_path / f"a{ending}").write_bytes(data)
    assert read_photo(tmp_path / f"a{ending}", tmp_path).shape[:2] == size[::-1]


def test_the_largest_cameras_are_let_through() -> None:
    for kind, data in headers(14_000).items():
        assert declared_size(data) == (14_000, 14_000), kind
    assert MAX_PIXELS >= 14_000 * 14_000
    for data in (b"", b"text", b"\xff\xd8", b"II*\0", b"BM", b"RIFF\0\0\0\0WEBPVP8X", b"P6 9"):
        assert declared_size(data) is None


def test_names_that_lead_out_of_a_dataset(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    secret = np.zeros((8, 8), np.uint8)
    assert cv2.imwrite(str(tmp_path / "secret.png"), secret)
    with pytest.raises(SkippedPair, match="foreign image"):
        read_photo(root / "../secret.png", root)
    for line in ("../secret.png b.png f.flo", "a.png b.png x/../../f.flo", "/a.png b.png f.flo"):
        (root / "pairs.txt").write_text(line)
        with pytest.raises(UserError, match=r"pairs\.txt: line 1 is not"):
            find_flow_pairs(root, "all")


def hdf5(write: Callable[[h5py.File], object]) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        write(made)
    return file.getvalue()


def test_hdf5_datasets_that_are_huge_or_elsewhere(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["depth"] = np.ones(4)
    (tmp_path / "secret").write_bytes(b"secret!!" * 4)
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "depth", (4,))
    elsewhere = str(tmp_path / "other.h5")
    cases: dict[str, Callable[[h5py.File], object]] = {
        "huge": lambda f: f.create_dataset("depth", (2**20, 2**20), "f4", chunks=(64, 64)),
        "packed": lambda f: f.create_dataset(
            "depth", data=np.zeros(10**6), compression="gzip", chunks=(10**6,)
        ),
        "link": lambda f: f.__setitem__("depth", h5py.ExternalLink(elsewhere, "depth")),
        "soft": lambda f: f.__setitem__("depth", h5py.SoftLink("/elsewhere")),
        "virtual": lambda f: f.create_virtual_dataset("depth", layout),
        "raw": lambda f: f.create_dataset(
            "depth", (4,), "f8", external=[(str(tmp_path / "secret"), 0, 32)]
        ),
        "text": lambda f: f.__setitem__("depth", "x"),
        "group": lambda f: f.create_group("depth"),
        "absent": lambda f: f.create_group("other"),
    }
    for name, write in cases.items():
        data = hdf5(write)
        assert len(data) < 20_000, name
        with pytest.raises(ValueError, match="no depth"):
            read_datasets(data, {"depth": 10**5})
    good = hdf5(lambda f: f.__setitem__("depth", np.arange(6.0).reshape(2, 3)))
    assert read_datasets(good, {"depth": 6})["depth"].tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match="no HDF5"):
        read_datasets(b"text", {"depth": 6})


def test_xml_that_grows_or_reads_other_files(tmp_path: Path) -> None:
    laughs = "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' if n else '<!ENTITY a0 "ha">' for n in range(10)
    )
    path = tmp_path / "tracklet_labels.xml"
    path.write_text(f"<!DOCTYPE t [{laughs}]><t><tracklets>&a9;</tracklets></t>")
    with pytest.raises(UserError, match="not a KITTI tracklet file") as error:
        read_tracklets(path)
    assert "\n" not in str(error.value)
    path.write_text(
        '<!DOCTYPE t [<!ENTITY a SYSTEM "file:///etc/passwd">]><t><tracklets>&a;</tracklets></t>'
    )
    with pytest.raises(UserError, match="not a KITTI tracklet file"):
        read_tracklets(path)
