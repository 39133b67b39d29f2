"""How many LiDAR labels lie on what moves, by the scans alone and with the images' say.

Synthetic drives without tracklets tell by their exact instances what moves (by over 15 cm between
the frames) and what stands. On real drives (--kitti-raw) nothing is exact: a label counts as
contradicted where two independent ways to match the images, dense inverse search and dense SIFT,
agree to 3 px and the label is over 5 px away.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ucn.arrays import Array, Bools, Floats
from ucn.errors import SkippedPair
from ucn.geometry.rigid import invert_rigid
from ucn.preprocessing.labels.lidar.pairs import LidarMatches, match_scans
from ucn.preprocessing.labels.lidar.point_tracks import TrackedImage
from ucn.preprocessing.sources.kitti.drive import Drive, find_drives
from ucn.preprocessing.sources.kitti.reader import LidarFrame, SequenceReader
from ucn.preprocessing.sources.kitti.sequence import LidarSequence
from ucn.preprocessing.sources.synthetic.config import WorldSpec
from ucn.preprocessing.sources.synthetic.kitti_writer import drive_folder, truth_folder, write_world

_TRAVEL = 0.15  # metres
_AGREE, _CONTRADICT = 3.0, 5.0  # pixels
_SAMPLED = 400  # matches of a real pair
_SIFT_STEP, _SIFT_SIZE = 3, 10.0  # pixels
_RULES = ("scans", "scans and images")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=16, help="of each world")
    parser.add_argument("--gaps", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--kitti-raw", help="real drives, beside the synthetic ones")
    parser.add_argument("--real-gaps", type=int, nargs="+", default=[1, 2, 5])
    parser.add_argument("--step", type=int, default=5, help="frames between real pairs")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.worlds:
            compare_worlds(Path(folder), options.worlds, options.frames, options.gaps)
    if options.kitti_raw:
        compare_drives(Path(options.kitti_raw), options.real_gaps, options.step)


def compare_worlds(root: Path, worlds: int, frames: int, gaps: list[int]) -> None:
    """Print what each rule leaves of what moves and of what stands, by gap."""
    specs = [
        WorldSpec(seed=seed, drive=seed, frames=frames, scan_degrees=120)
        for seed in range(1, worlds + 1)
    ]
    for spec in specs:
        write_world(root, spec)
        (drive_folder(root, spec) / "tracklet_labels.xml").unlink()
    print("| gap | rule | movers' points removed | matches that move | static matches lost |")
    print("| ---: | --- | ---: | ---: | ---: |")
    for gap in gaps:
        counts = {rule: Counter[str]() for rule in _RULES}
        for spec in specs:
            (folder,) = find_drives(root, (spec.drive_name,))
            drive = Drive(folder, camera=2)
            sequence = drive.reader(drive.frames)
            for first in range(0, frames - gap, 2):
                try:
                    by_rule = labels(sequence, first, first + gap)
                except SkippedPair as skipped:
                    print(f"skipped: {spec.drive_name} {first} and {first + gap}: {skipped}")
                    continue
                names = [f"{frame:010d}.npz" for frame in (first, first + gap)]
                truth = [np.load(truth_folder(root, spec) / name) for name in names]
                view = sequence.read(first).view.view
                moves_N, stands_N = motion(truth[0], truth[1], view.pixels_2N)
                for rule, found in by_rule.items():
                    counts[rule] += Counter(
                        matches=len(found.index_M),
                        moving=int(moves_N[found.index_M].sum()),
                        static=int(stands_N[found.index_M].sum()),
                        removed=int(moves_N[found.moving_K].sum()),
                    )
        static = counts[_RULES[0]]["static"]
        for rule, count in counts.items():
            movers = count["moving"] + count["removed"]
            print(
                f"| {gap} | {rule} | {count['removed'] / movers:.2%} of {movers} | "
                f"{count['moving'] / count['matches']:.3%} | {1 - count['static'] / static:.2%} |"
            )


def labels(sequence: SequenceReader, first: int, second: int) -> dict[str, LidarMatches]:
    """The matches of two frames by each rule, without labelled movers."""
    frame0, frame1 = sequence.read(first), sequence.read(second)
    none_N = np.zeros(len(frame0.view.source_N), bool)

    def by(images: tuple[TrackedImage, TrackedImage] | None) -> LidarMatches:
        T_1_0 = relative_pose(frame0, frame1)
        return match_scans(frame0.view, frame1.view, T_1_0, sequence.rig, none_N, images)

    return dict(zip(_RULES, (by(None), by((frame0.tracked, frame1.tracked))), strict=True))


def relative_pose(frame0: LidarFrame, frame1: LidarFrame) -> Floats:
    return np.asarray(invert_rigid(frame1.T_world_cam) @ frame0.T_world_cam)


def motion(
    truth0: dict[str, Array], truth1: dict[str, Array], pixels_2N: Floats
) -> tuple[Bools, Bools]:
    """Which pixels of frame 0 surely move and surely stand; a pixel's breadth is in doubt."""
    instance_HW = truth0["instance"]
    height, width = instance_HW.shape
    x_N, y_N = np.rint(pixels_2N).astype(int)
    at_N = np.clip(y_N, 0, height - 1) * width + np.clip(x_N, 0, width - 1)
    places = [truth["T_world_movers"][:, :3, 3] for truth in (truth0, truth1)]
    travels = np.linalg.norm(places[1] - places[0], axis=1) > _TRAVEL
    moves_N = np.isin(instance_HW.ravel()[at_N], 1 + np.flatnonzero(travels))
    near_HW = cv2.dilate((instance_HW > 0).astype(np.uint8), np.ones((3, 3), np.uint8))
    return moves_N, np.asarray(near_HW).ravel()[at_N] == 0


def compare_drives(root: Path, gaps: list[int], step: int) -> None:
    """Print the share of contradicted labels of each rule, by gap."""
    print("| gap | rule | pairs | matches a pair | checked | contradicted |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for gap in gaps:
        shares: dict[str, list[tuple[float, float, int]]] = {rule: [] for rule in _RULES}
        for folder in find_drives(root):
            drive = Drive(folder, camera=2)
            sequence = drive.reader(drive.frames)
            for first, second in _frame_pairs(drive, gap, step):
                try:
                    by_rule = labels(sequence, first, second)
                except SkippedPair as skipped:
                    print(f"skipped: {drive.name} {first} and {second}: {skipped}")
                    continue
                images = (sequence.read(first).image, sequence.read(second).image)
                for rule, found in by_rule.items():
                    shares[rule].append(
                        (*contradicted(images, found.matches_N4), len(found.index_M))
                    )
        for rule, rows in shares.items():
            checked, wrong, matches = np.mean(rows, axis=0)
            print(f"| {gap} | {rule} | {len(rows)} | {matches:.0f} | {checked:.1%} | {wrong:.1%} |")


def _frame_pairs(sequence: LidarSequence, gap: int, step: int) -> Iterator[tuple[int, int]]:
    known = set(sequence.frames)
    return ((frame, frame + gap) for frame in sequence.frames[::step] if frame + gap in known)


def contradicted(images: tuple[Array, Array], matches_N4: Floats) -> tuple[float, float]:
    """Share of the matches whose flows agree, and share of those that the label contradicts."""
    grey0, grey1 = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images)
    chosen = np.random.default_rng(0).permutation(len(matches_N4))[:_SAMPLED]
    starts_N2, label_N2 = np.hsplit(matches_N4[chosen], 2)
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    height, width = grey0.shape
    x_N, y_N = np.clip(np.rint(starts_N2), 0, (width - 1, height - 1)).astype(int).T
    start_HW2 = np.zeros((height, width, 2), np.float32)
    flow_N2 = np.asarray(search.calc(grey0, grey1, start_HW2))[y_N, x_N]
    columns, rows = np.arange(1, width, _SIFT_STEP), np.arange(1, height, _SIFT_STEP)
    grid_G2 = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    described_GD, described_ND = _describe(grey1, grid_G2), _describe(grey0, starts_N2)
    found_N2 = grid_G2[(described_ND @ described_GD.T).argmax(axis=1)]
    agree_N = np.linalg.norm(starts_N2 + flow_N2 - found_N2, axis=1) < _AGREE
    off_N = np.linalg.norm(starts_N2 + flow_N2 - label_N2, axis=1) > _CONTRADICT
    return float(agree_N.mean()), float(off_N[agree_N].mean())


def _describe(grey: Array, pixels_N2: Floats) -> Array:
    """RootSIFT of upright patches [N, 128]."""
    points = [cv2.KeyPoint(float(x), float(y), _SIFT_SIZE, 0) for x, y in pixels_N2]
    described_ND = np.asarray(cv2.SIFT.create().compute(grey, points)[1])
    normalised_ND: Array = np.sqrt(
        described_ND / np.maximum(described_ND.sum(axis=1, keepdims=True), 1e-6)
    )
    return normalised_ND


if __name__ == "__main__":
    main()
