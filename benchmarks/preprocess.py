"""Preprocessing of KITTI raw beside its limit and beside a plain pykitti + NumPy loop.

The limit reads and decodes the same files and encodes and writes the same shard, and does nothing
in between. The plain loop is what one writes in an hour: two images, a scan, poses, a z-buffer and
PNG files for each pair, one pair after the other. All run on one core, in turns, in one process;
times are CPU times, so that other work on the machine counts less.
"""

import argparse
import dataclasses
import itertools
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

# One core a task, as Ray runs them; read when the libraries are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import pykitti
from scipy.ndimage import minimum_filter

from ucn.arrays import Array
from ucn.cluster.session import ray_session
from ucn.cluster.tasks import run_tasks
from ucn.images.read import decode_photo
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.labels.lidar.pairs import match_scans
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.write import write_shard
from ucn.preprocessing.sources.base import PairRef
from ucn.preprocessing.sources.kitti.raw import KittiRawConfig
from ucn.preprocessing.sources.synthetic.config import WorldSpec
from ucn.preprocessing.sources.synthetic.kitti_writer import write_world
from ucn.storage.stores import open_store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="KITTI raw; by default a synthetic drive made on the spot")
    parser.add_argument(
        "--repeat", action="store_true", help="repeat a drive's first frames for --pairs pairs"
    )
    parser.add_argument("--gaps", type=int, nargs="+", default=[1, 2, 5])
    parser.add_argument("--pairs", type=int, default=60, help="pairs of the shard")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = options.root or make_drive(Path(folder) / "world", options.pairs)
        if options.repeat:
            root = repeat_frames(Path(root), Path(folder) / "repeated", options.pairs)
        config = KittiRawConfig(
            root=root, out=f"{folder}/out", gaps=tuple(options.gaps), min_matches=1
        )
        pairs = config.open_source().pairs()[: options.pairs]
        print(f"{len(pairs)} pairs, gaps {options.gaps}, of {options.root or 'a synthetic drive'}")
        compare_on_one_core(config, pairs, Path(folder), options.rounds)
        compare_workers(config, Path(folder))


def make_drive(root: Path, pairs: int) -> str:
    """A synthetic drive with about as many frames as pairs need."""
    spec = WorldSpec(seed=1, frames=max(12, pairs // 3 + 8), truth=False)
    write_world(root, spec)
    return str(root)


def repeat_frames(root: Path, target: Path, frames: int) -> str:
    """A drive of links to the consecutive frames that the first drive begins with, in turns.

    A frame of the new drive is read and prepared like any other.
    """
    source = min(root.glob("*/*_sync")).resolve()
    day, drive = target / source.parent.name, target / source.parent.name / source.name
    numbers = sorted(int(path.stem) for path in (source / "oxts" / "data").glob("*.txt"))
    first = [number for index, number in enumerate(numbers) if number == numbers[0] + index]
    for name, suffix in (("image_02", "png"), ("velodyne_points", "bin"), ("oxts", "txt")):
        (drive / name / "data").mkdir(parents=True)
        for frame in range(frames):
            link = drive / name / "data" / f"{frame:010d}.{suffix}"
            number = first[frame % len(first)]
            link.symlink_to(source / name / "data" / f"{number:010d}.{suffix}")
    (drive / "oxts" / "timestamps.txt").symlink_to(source / "oxts" / "timestamps.txt")
    for path in source.parent.glob("calib_*.txt"):
        (day / path.name).symlink_to(path)
    return str(target)


def compare_on_one_core(
    config: KittiRawConfig, pairs: list[PairRef], folder: Path, rounds: int
) -> None:
    """Print time a pair of the loop, the limit and ourselves, and the ratios to the limit."""
    source = config.open_source()
    samples = [source.load(pair) for pair in pairs]
    contenders: dict[str, Callable[[], object]] = {
        "decode and encode alone": lambda: write(folder, limit(config, samples)),
        "ucn": lambda: write(folder, ours(config, pairs)),
        "ucn without the motion check of images": lambda: unchecked(folder, config, pairs),
        "pykitti + NumPy loop": lambda: plain_loop(config, pairs, folder / "plain"),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.process_time()
            run()
            times[name].append((time.process_time() - start) / len(pairs))
    floor = times["decode and encode alone"]
    print("| what | ms a pair | ratio to decode and encode alone |\n| --- | --- | --- |")
    for name, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, floor, strict=True))
        print(f"| {name} | {1e3 * statistics.median(seconds):.1f} | {ratio:.2f} |")
    gain = statistics.median(
        a / b for a, b in zip(times["pykitti + NumPy loop"], times["ucn"], strict=True)
    )
    size = (folder / "bench-000000.tar").stat().st_size / len(pairs)
    print(f"ucn is {gain:.1f} times as fast as the loop; {size / 1e6:.2f} MB a pair\n")


def ours(config: KittiRawConfig, pairs: list[PairRef]) -> Iterator[Sample]:
    """What a task of the job does."""
    source = config.open_source()
    return (source.load(pair) for pair in pairs)


def unchecked(folder: Path, config: KittiRawConfig, pairs: list[PairRef]) -> None:
    """What a task of the job does, without images for the motion check."""
    name = "ucn.preprocessing.sources.kitti.lidar.match_scans"
    with patch(name, lambda *arguments: match_scans(*arguments[:5])):
        write(folder, ours(config, pairs))


def limit(config: KittiRawConfig, samples: list[Sample]) -> Iterator[Sample]:
    """Read and decode each frame once; everything else is there already."""
    images: dict[str, Array] = {}

    def read(sequence: str, frame: str) -> Array:
        if frame not in images:
            drive, _, camera = sequence.rpartition("-")
            folder = Path(config.root) / drive[:10] / f"{drive}_sync"
            data = (folder / camera / "data" / f"{frame}.png").read_bytes()
            images[frame] = decode_photo(data, frame)
            np.fromfile(folder / "velodyne_points" / "data" / f"{frame}.bin", np.float32)
            (folder / "oxts" / "data" / f"{frame}.txt").read_text()
        return images[frame]

    for sample in samples:
        sequence = sample.metadata["sequence"]
        yield dataclasses.replace(
            sample,
            image0=read(sequence, sample.metadata["frame0"]),
            image1=read(sequence, sample.metadata["frame1"]),
        )


def write(folder: Path, samples: Iterator[Sample]) -> None:
    write_shard(open_store(folder), "bench-000000.tar", samples, "grey-png", "c", "f")


def plain_loop(config: KittiRawConfig, pairs: list[PairRef], folder: Path) -> None:
    """Every pair by itself: load, project, z-buffer both views, write PNG and npy."""
    folder.mkdir(exist_ok=True)
    date, _, number = pairs[0].sequence.partition("-image")[0].partition("_drive_")
    data = pykitti.raw(config.root, date, number)
    T_cam_velo, K = data.calib.T_cam2_velo, data.calib.K_cam2
    frames = [int(Path(path).stem) for path in data.cam2_files]
    for pair in pairs:
        index0, index1 = frames.index(int(pair.frame0)), frames.index(int(pair.frame1))
        image0, image1 = data.get_cam2(index0).convert("L"), data.get_cam2(index1).convert("L")
        T_w0, T_w1 = data.oxts[index0].T_w_imu, data.oxts[index1].T_w_imu
        T_velo1_velo0 = (
            data.calib.T_velo_imu
            @ np.linalg.inv(T_w1)
            @ T_w0
            @ np.linalg.inv(data.calib.T_velo_imu)
        )
        scan0 = np.c_[data.get_velo(index0)[:, :3], np.ones(len(data.get_velo(index0)))]
        scan1 = np.c_[data.get_velo(index1)[:, :3], np.ones(len(data.get_velo(index1)))]
        size = image0.size
        pixels0, depth0, kept0 = project(scan0 @ T_cam_velo.T, K, size)
        pixels1, depth1, kept1 = project(scan0 @ T_velo1_velo0.T @ T_cam_velo.T, K, size)
        own1, own_depth1, own_kept1 = project(scan1 @ T_cam_velo.T, K, size)
        nearest0 = z_buffer(pixels0[kept0], depth0[kept0], size)
        nearest1 = z_buffer(own1[own_kept1], own_depth1[own_kept1], size)
        both = kept0 & kept1
        both[both] &= visible(nearest0, pixels0[both], depth0[both])
        both[both] &= visible(nearest1, pixels1[both], depth1[both])
        stem = folder / f"{pair.frame0}-{pair.frame1}"
        image0.save(f"{stem}.image0.png")
        image1.save(f"{stem}.image1.png")
        np.save(f"{stem}.matches.npy", np.hstack([pixels0[both], pixels1[both]]))


def project(points_N4: Array, K: Array, size: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Pixels, depths, and which points lie inside the image."""
    homogeneous_N3 = points_N4[:, :3] @ K.T
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels_N2 = homogeneous_N3[:, :2] / homogeneous_N3[:, 2:]
    depth_N = homogeneous_N3[:, 2]
    inside_N = (depth_N > 1) & (pixels_N2 >= 0).all(1) & (pixels_N2 < np.array(size) - 1).all(1)
    return pixels_N2, depth_N, inside_N


def z_buffer(pixels_N2: Array, depth_N: Array, size: tuple[int, int]) -> Array:
    """Nearest depth within a ring's distance of each pixel."""
    buffer_HW = np.full(size[::-1], np.inf)
    columns, rows = np.rint(pixels_N2).astype(int).T
    np.minimum.at(buffer_HW, (rows, columns), depth_N)
    return np.asarray(minimum_filter(buffer_HW, (9, 5)))


def visible(nearest_HW: Array, pixels_N2: Array, depth_N: Array) -> Array:
    columns, rows = np.rint(pixels_N2).astype(int).T
    return np.asarray(depth_N < 1.1 * nearest_HW[rows, columns] + 0.2)


def compare_workers(config: KittiRawConfig, folder: Path) -> None:
    """Print what a second worker gains, and the memory of a worker."""
    seconds: dict[int, float] = {}
    for workers in (1, 2):
        task = config.model_copy(
            update={"out": str(folder / f"w{workers}"), "workers": workers, "pairs_per_shard": 15}
        )
        with ray_session(workers):
            # What a worker imports once is not what a long run consists of.
            list(run_tasks(_load_some, [(config, 2)] * workers, workers))
            start = time.perf_counter()
            samples = preprocess(task).totals.samples
            seconds[workers] = time.perf_counter() - start
            peaks = dict(run_tasks(_load_some, [(config, 60)] * workers, workers))
        print(
            f"{workers} workers: {samples} pairs in {seconds[workers]:.1f} s; "
            f"{max(peaks.values()) / 2**20:.0f} MiB at most a worker"
        )
    print(f"2 workers are {seconds[1] / seconds[2]:.2f} times as fast as 1\n")


def _load_some(item: tuple[KittiRawConfig, int]) -> int:
    """Make some samples; peak resident memory of the worker since it started, bytes."""
    cv2.setNumThreads(1)
    config, count = item
    source = config.open_source()
    for pair in itertools.islice(source.pairs(), count):
        source.load(pair)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
