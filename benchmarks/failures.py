"""Wrong matches of a model, sorted by cause; pictures of the worst pairs.

    python benchmarks/failures.py --model models/small --shards TEST --out FOLDER

Each of a pair's points is matched as `ucn train` validates: the nearest feature on a grid of 2 px
over the whole second image. A wrong match (by more than 10 px) has the first of these causes that
applies to its point:

- scale: the image around it grows or shrinks by more than a factor of 1.5, by an affine map fitted
  to the true matches around;
- little texture: the grey values around it vary by less than 7 of 255;
- motion edge: the true matches within 12 px of it move apart by more than 6 px from one affine map,
  so that what surrounds it there is not what surrounds it here;
- repetition: the true place is nearly as similar as the one found, within 0.1 of cosine similarity;
- other.

A picture shows image 0 over image 1: points found in green, wrong ones in the colour of their
cause, with a line in image 1 from the truth to what was found.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ucn.images.draw import to_rgb, write_picture
from ucn.matching.features import sample_features
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.read import ShardDataset
from ucn.training.config import TrainConfig
from ucn.training.loop.validate import MatchedPair, match_pair, validation_indices
from ucn.training.model import load_model
from ucn.training.networks.base import DenseNetwork
from ucn.training.networks.describe import describe

WRONG = 10.0
SCALE = 1.5
TEXTURE_WINDOW, TEXTURE = 15, 7.0
NEIGHBOURS = 24
EDGE_RADIUS, EDGE = 12.0, 6.0
SIMILAR = 0.1

COLOURS = {
    "scale": (231, 60, 60),
    "little texture": (245, 220, 30),
    "motion edge": (230, 80, 220),
    "repetition": (245, 150, 30),
    "other": (70, 140, 255),
}
FOUND = (46, 204, 113)

Floats = NDArray[np.floating[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--pictures", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = load_model(options.model).network.eval()
    dataset = ShardDataset(options.shards)
    config = TrainConfig.model_validate({"data": {"validation_points": 1000}})
    wrong, all_points = Counter[str](), Counter[str]()
    worst: list[tuple[float, str, MatchedPair, NDArray[np.str_]]] = []
    for index in validation_indices(len(dataset), options.pairs):
        sample = dataset[index]
        pair = match_pair(network, sample, index, config)
        cause_N = causes(network, pair)
        wrong_N = pair.error_N > WRONG
        wrong.update(cause_N[wrong_N].tolist())
        all_points.update(cause_N.tolist())
        worst.append((float(wrong_N.mean()), sample.key, pair, cause_N))
    print_table(wrong, all_points)
    worst.sort(key=lambda entry: -entry[0])
    for place, (share, key, pair, cause_N) in enumerate(worst[: options.pictures]):
        print(f"\nworst-{place}: {key}, {100 * share:.0f} % wrong")
        write_picture(options.out / f"worst-{place}.jpg", picture(pair, cause_N))


def causes(network: DenseNetwork, pair: MatchedPair) -> NDArray[np.str_]:
    """Name what makes each point hard, whether it is found or not: str [N], as in `COLOURS`."""
    scale_N, spread_N = local_motion(pair.sample, pair.points0_N2)
    cause_N = np.full(len(scale_N), "other", dtype="<U16")
    similar_N = similarity_lost(network, pair) < SIMILAR
    cause_N[similar_N & (pair.error_N > WRONG)] = "repetition"
    cause_N[spread_N > EDGE] = "motion edge"
    cause_N[texture(pair.sample.image0, pair.points0_N2) < TEXTURE] = "little texture"
    cause_N[np.maximum(scale_N, 1 / scale_N) > SCALE] = "scale"
    return cause_N


def local_motion(sample: Sample, points0_N2: Floats) -> tuple[Floats, Floats]:
    """Fit an affine map to the true matches around each point.

    Returns:
        how much the image grows there, [N]: the square root of the map's determinant; and the
        farthest that a match within `EDGE_RADIUS` lies off the map, [N], pixels.
    """
    matches_M4 = sample.matches_N4.astype(np.float64)
    distance_NK, index_NK = cKDTree(matches_M4[:, :2]).query(points0_N2, k=NEIGHBOURS)
    near_NK4 = matches_M4[index_NK]
    centred_NK4 = near_NK4 - np.median(near_NK4, axis=1, keepdims=True)
    source_NK3 = np.concatenate([centred_NK4[..., :2], np.ones((*index_NK.shape, 1))], axis=2)
    map_N32 = np.linalg.pinv(source_NK3) @ centred_NK4[..., 2:]
    off_NK = np.linalg.norm(source_NK3 @ map_N32 - centred_NK4[..., 2:], axis=2)
    scale_N = np.sqrt(np.abs(np.linalg.det(map_N32[:, :2])).clip(1e-6))
    return scale_N, np.where(distance_NK <= EDGE_RADIUS, off_NK, 0).max(axis=1)


def texture(image: NDArray[np.uint8], points_N2: Floats) -> Floats:
    """Standard deviation of the grey values around each point, [N], 0 to 127.5."""
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    window = (TEXTURE_WINDOW, TEXTURE_WINDOW)
    values = grey.astype(np.float64)
    variance = cv2.blur(values * values, window) - cv2.blur(values, window) ** 2
    x_N, y_N = points_N2.round().astype(int).clip(0, np.array(grey.shape[::-1]) - 1).T
    deviation_N: Floats = np.sqrt(variance[y_N, x_N].clip(0))
    return deviation_N


def similarity_lost(network: DenseNetwork, pair: MatchedPair) -> Floats:
    """By how much the place found is more similar than the true one, [N], cosines."""

    def features(image: NDArray[np.uint8], points_N2: Floats) -> NDArray[np.float32]:
        points = torch.from_numpy(np.ascontiguousarray(points_N2, np.float32))
        described = describe(network, image, bfloat16=True)
        return sample_features(described, points, network.stride, network.offset).numpy()

    image0, image1 = pair.sample.image0, pair.sample.image1
    query_ND = features(image0, pair.points0_N2)
    found_N = (query_ND * features(image1, pair.found_N2)).sum(axis=1)
    truth_N = (query_ND * features(image1, pair.truth_N2)).sum(axis=1)
    lost_N: Floats = found_N - truth_N
    return lost_N


def print_table(wrong: Counter[str], all_points: Counter[str]) -> None:
    failures, points = wrong.total(), all_points.total()
    print("| cause | wrong of its points | share of all points | share of all failures |")
    print("| --- | ---: | ---: | ---: |")
    for cause in COLOURS:
        # Whether the truth is nearly as similar is asked of wrong matches alone.
        of_its = f"{100 * wrong[cause] / max(all_points[cause], 1):.0f} %"
        print(
            f"| {cause} | {'' if cause == 'repetition' else of_its} | "
            f"{100 * all_points[cause] / max(points, 1):.0f} % | "
            f"{100 * wrong[cause] / max(failures, 1):.0f} % |"
        )
    print(f"| all | {100 * failures / max(points, 1):.1f} % | | |")


def picture(pair: MatchedPair, cause_N: NDArray[np.str_]) -> NDArray[np.uint8]:
    """Draw one pair as the head of this file says."""
    above, below = to_rgb(pair.sample.image0).copy(), to_rgb(pair.sample.image1).copy()
    wrong_N = pair.error_N > WRONG
    rows = zip(pair.points0_N2, pair.truth_N2, pair.found_N2, cause_N, wrong_N, strict=True)
    for number, (point, truth, found, cause, wrong) in enumerate(rows):
        colour = COLOURS[str(cause)] if wrong else FOUND
        cv2.circle(above, _pixel(point), 3 if wrong else 2, colour, -1, cv2.LINE_AA)
        if wrong:
            cv2.circle(below, _pixel(truth), 2, colour, -1, cv2.LINE_AA)
            if number % 4 == 0:
                cv2.line(below, _pixel(truth), _pixel(found), colour, 1, cv2.LINE_AA)
    width = min(above.shape[1], below.shape[1])
    legend = np.full((30, width, 3), 255, np.uint8)
    for place, (cause, colour) in enumerate(COLOURS.items()):
        cv2.circle(legend, (16 + 160 * place, 15), 5, colour, -1, cv2.LINE_AA)
        at = (28 + 160 * place, 20)
        cv2.putText(legend, cause, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([legend, above[:, :width], below[:, :width]])


def _pixel(point: Floats) -> tuple[int, int]:
    x, y = np.round(point).astype(int).tolist()
    return x, y


if __name__ == "__main__":
    main()
