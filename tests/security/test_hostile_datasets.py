"""Raw datasets from a stranger: their files are read, within limits, and no others."""

import io
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import PIL.Image
import pytest

from ucn.errors import SkippedPair, UserError
from ucn.images.disparity_files import read_disparity
from ucn.images.flow_files import read_flow
from ucn.images.read import MAX_PIXELS, decode_any, image_size, read_photo
from ucn.pipeline.match import read_rgb_photo
from ucn.preprocessing.sources.archive import ArchivePath
from ucn.preprocessing.sources.flow.layouts import find_flow_pairs
from ucn.preprocessing.sources.kitti.files import read_tracklets
from ucn.storage.array_files import read_hdf5

SIDE = 60_000


TOO_LARGE = "more than 178 megapixels"


def png(*sizes: tuple[int, int]) -> bytes:
    """A grey PNG without image data, with one header chunk for each (width, height)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    chunks = [chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)) for size in sizes]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def jpeg(*sizes: tuple[int, int]) -> bytes:
    """A grey JPEG without image data, with one frame header for each (width, height)."""
    frames = [
        b"\xff\xc0\0\x0b" + struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)
        for width, height in sizes
    ]
    scan = b"\xff\xda\0\x08\1\1\0\0\x3f\0"
    return b"\xff\xd8\xff\xe0\0\4ab\xff\xff" + b"".join(frames) + scan + b"\xff\xd9"


def tiff(*entries: tuple[int, int], pixels: int = 0) -> bytes:
    """An 8-bit grey TIFF of so many pixels, with these (tag, value) before its other tags."""
    start = 8 + 2 + 12 * (len(entries) + 7) + 4
    others = ((258, 8), (259, 1), (262, 1), (273, start), (277, 1), (278, 5000), (279, pixels))
    tags = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in (*entries, *others)]
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(tags) + bytes(4 + pixels)


def headers(side: int) -> dict[str, bytes]:
    """Images whose headers say ``side`` x ``side`` pixels, and that hold none."""
    frame = b"\0\0\0," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\2\0;"
    return {
        "png": png((side, side)),
        "jpg": jpeg((side, side)),
        "webp": b"RIFF\x40\0\0\0WEBPVP8X\x0a" + bytes(7) + (side - 1).to_bytes(3, "little") * 2,
        "tif": tiff((256, side), (257, side)),
        "bmp": b"BM"
        + bytes(8)
        + struct.pack("<IIiiHHIIiiII", 54, 40, side, -side, 1, 24, *[0] * 6),
        "gif": b"GIF89a" + struct.pack("<HH", side, side) + frame,
        "ppm": f"P6 # from afar\n{side}\n# further\n{side} 255\n".encode(),
    }


@pytest.mark.parametrize("kind", sorted(headers(SIDE)))
def test_photos_too_large_to_be_any_are_refused_by_their_header(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", None)
    path = tmp_path / f"photo.{kind}"
    path.write_bytes(headers(SIDE)[kind])
    with pytest.raises(SkippedPair, match=f"damaged image: photo.{kind}: .*{TOO_LARGE}"):
        read_photo(path, tmp_path)
    with pytest.raises(UserError, match=TOO_LARGE) as error:
        read_rgb_photo(path)
    assert "\n" not in str(error.value)


def test_a_flow_too_large_to_be_any_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", None)
    (tmp_path / "flow.png").write_bytes(headers(SIDE)["png"])
    with pytest.raises(SkippedPair, match=f"damaged flow: .*{TOO_LARGE}"):
        read_flow(tmp_path / "flow.png", tmp_path)
    with pytest.raises(SkippedPair, match=f"damaged disparity: .*{TOO_LARGE}"):
        read_disparity(tmp_path / "flow.png", tmp_path)
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
    assert image_size(data) == size
    (tmp_path / f"a{ending}").write_bytes(data)
    assert read_photo(tmp_path / f"a{ending}", tmp_path).shape[:2] == size[::-1]


@pytest.mark.parametrize("kind", sorted(set(headers(SIDE)) - {"webp"}))
def test_the_largest_cameras_are_let_through(kind: str) -> None:
    assert image_size(headers(13_000)[kind]) == (13_000, 13_000)
    assert MAX_PIXELS >= 13_000 * 13_000 > 150_000_000


def test_nothing_is_said_of_images_above_half_of_the_limit() -> None:
    """By a program of its own: pytest changes which warnings are shown."""
    code = "import sys\nfrom ucn.images.read import image_size\nimage_size(sys.stdin.buffer.read())"
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", code],
        input=headers(13_000)["png"],
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""


@pytest.mark.parametrize(
    "data",
    [b"", b"text", b"\xff\xd8", b"II*\0", b"BM", b"RIFF\0\0\0\0WEBPVP8X", b"P6 9", png((0, 5))],
    ids=repr,
)
def test_what_has_no_size_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a PNG|damaged header"):
        image_size(data)


@pytest.mark.parametrize("ending", [".jp2", ".exr", ".hdr", ".ras"])
def test_other_formats_are_refused_before_they_are_decoded(
    ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    beginnings = {
        ".jp2": b"\0\0\0\x0cjP  \r\n\x87\n",
        ".exr": b"v/1\1\2\0\0\0",
        ".hdr": b"#?RADIANCE\n",
        ".ras": b"\x59\xa6\x6a\x95",
    }
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(ValueError, match="not a PNG, JPEG"):
        decode_any(beginnings[ending] + bytes(200), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("sizes", [((9000, 9000), (2, 2)), ((2, 2), (9000, 9000))])
@pytest.mark.parametrize("make", [png, jpeg])
def test_a_second_header_is_refused(
    make: Callable[..., bytes], sizes: tuple[tuple[int, int], ...]
) -> None:
    with pytest.raises(ValueError, match="damaged"):
        decode_any(make(*sizes), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("widths", [(200, 2), (2, 200)])
def test_of_two_widths_of_a_tiff_the_one_that_opencv_decodes_is_read(
    widths: tuple[int, int],
) -> None:
    entries = [(256, width) for width in widths]
    data = tiff(*entries, (257, 200), pixels=200 * 200)
    assert decode_any(data, cv2.IMREAD_UNCHANGED).shape == (200, widths[0])
    assert image_size(data) == (widths[0], 200)
    with pytest.raises(ValueError, match=TOO_LARGE):
        image_size(tiff((256, SIDE), (256, 2), (257, SIDE)))


def test_a_limit_of_pillows_that_a_program_has_removed_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ValueError, match=TOO_LARGE):
        image_size(headers(SIDE)["png"])


def test_a_decoded_image_of_another_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = cv2.imencode(".png", np.zeros((8, 9), np.uint8))[1].tobytes()
    assert decode_any(data, cv2.IMREAD_UNCHANGED).shape == (8, 9)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.zeros((8, 10), np.uint8))
    with pytest.raises(ValueError, match="damaged"):
        decode_any(data, cv2.IMREAD_UNCHANGED)


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
            read_hdf5(data, {"depth": 10**5})
    good = hdf5(lambda f: f.__setitem__("depth", np.arange(6.0).reshape(2, 3)))
    assert read_hdf5(good, {"depth": 6})["depth"].tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match="no HDF5"):
        read_hdf5(b"text", {"depth": 6})


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


def test_a_member_of_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ucn.preprocessing.sources.archive._MAX_BYTES", 10**6)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb.png", bytes(10**6 + 1))
        file.writestr("../up.png", b"up")
    root = ArchivePath(tmp_path / "a.zip")
    with pytest.raises(SkippedPair, match=r"unreadable image: bomb\.png: larger than"):
        read_photo(root / "bomb.png", root)
    # A name that leads out of the archive is a name in it, and nothing else.
    (tmp_path / "up.png").write_bytes(b"another file")
    assert (root / ".." / "up.png").read_bytes() == b"up"
    with pytest.raises(SkippedPair, match="foreign image"):
        read_photo(root / ".." / "up.png", root)
