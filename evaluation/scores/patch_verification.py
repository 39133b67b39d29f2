"""Patch verification: decides whether two patches show the same point, by their descriptors.

The score is FPR95 on the patches of Brown, Hua and Winder (PAMI 2011).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ucn.evaluation.scores.brown_patches import PATCH, Ints, PatchPairs, read_patches
from ucn.matching.descriptors import Describe, Floats, Pixels
from ucn.matching.features import pixels_to_cells
from ucn.matching.spline import read_spline
from ucn.training.model import Model

DescribePatches = Callable[[Pixels], Floats]
"""Maps patches_NHW, uint8, N > 0, to descriptors_ND, float32 of unit length (or zero). Use
``partial(describe_patches, describe=...)`` for a `ucn.matching.descriptors.Describe`."""

# Four sheets, 4 MB of pixels.
_CHUNK = 1024
# Larger batches are not faster on a CPU, since their activations exceed its cache.
_BATCH = 16


def fpr95(scores_N: NDArray[np.floating], same_N: NDArray[np.bool_]) -> float:
    """False positive rate at 95 % recall, percent.

    Pairs are accepted in descending order of score until at least 95 % of the matching pairs are
    accepted. Pairs of equal score are accepted together, so the result does not depend on their
    order, and a constant score gives 100.

    Args:
        scores_N: larger for more similar patches; may be infinite.
        same_N: whether the two patches show the same point.

    Returns:
        The percentage of non-matching pairs that are accepted.

    Raises:
        ValueError: the shapes disagree, a score is NaN, or one kind of pair is missing.
    """
    if scores_N.ndim != 1 or scores_N.shape != same_N.shape or same_N.dtype != np.bool_:
        raise ValueError(f"{scores_N.shape} scores of {same_N.shape} {same_N.dtype} labels")
    if np.isnan(scores_N).any():
        raise ValueError("a score is undefined")
    positive, negative = np.sort(scores_N[same_N]), scores_N[~same_N]
    if not len(positive) or not len(negative):
        raise ValueError(f"{len(positive)} matching and {len(negative)} other pairs; both needed")
    # Integer arithmetic, since 0.95 has no exact binary representation.
    accepted = -(-95 * len(positive) // 100)
    return float(100.0 * np.mean(negative >= positive[-accepted]))


def score_patches(pairs: PatchPairs, described_PD: Floats) -> float:
    """FPR95 of pairs, percent.

    Args:
        pairs: the pairs.
        described_PD: descriptors of all chunks of :func:`patch_chunks`, concatenated.

    Raises:
        ValueError: as in :func:`fpr95`.
    """
    _, place_2N = np.unique([pairs.first_N, pairs.second_N], return_inverse=True)
    first_N, second_N = place_2N.reshape(2, -1)
    return fpr95(patch_similarities(described_PD[first_N], described_PD[second_N]), pairs.same_N)


def patch_similarities(first_ND: Floats, second_ND: Floats) -> Floats:
    """Cosine similarity of the descriptors of each pair: float32 [N]."""
    if first_ND.shape != second_ND.shape:
        raise ValueError(f"descriptors {first_ND.shape} and {second_ND.shape}")
    similarities_N: Floats = np.einsum("nd,nd->n", first_ND, second_ND)
    return similarities_N


def patch_chunks(pairs: PatchPairs) -> list[Ints]:
    """Indices of the distinct patches, ascending, in chunks that do not share sheets."""
    numbers_P = np.unique([pairs.first_N, pairs.second_N])
    return np.split(numbers_P, np.flatnonzero(np.diff(numbers_P // _CHUNK)) + 1)


def describe_chunk(folder: Path, numbers_N: Ints, describe: DescribePatches) -> Floats:
    """Reads patches by index and describes them: float32 [N, D].

    Raises:
        UserError: as in `ucn.evaluation.scores.brown_patches.read_patches`.
    """
    return describe(read_patches(folder, numbers_N))


def describe_patches(patches_NHW: Pixels, describe: Describe) -> Floats:
    """Describes each patch by the descriptor at its centre: float32 [N, D].

    Args:
        patches_NHW: uint8, N > 0.
        describe: descriptor of points.

    Raises:
        ValueError: there are no patches.
    """
    if patches_NHW.ndim != 3 or not len(patches_NHW):
        raise ValueError(f"patches of shape {patches_NHW.shape}; [N, H, W] wanted")
    height, width = patches_NHW.shape[1:]
    centre_12 = np.array([[(width - 1) / 2, (height - 1) / 2]], np.float32)
    return np.concatenate([describe(patch_HW, centre_12) for patch_HW in patches_NHW])


def network_patch_describer(model: Model) -> DescribePatches:
    """Describes patches in batches by a network's features at their centres.

    Equals :func:`describe_patches` with ``model.extract(patch).at(points)``, up to rounding.
    """
    device = next(model.network.parameters()).device
    centre_12 = torch.full((1, 2), (PATCH - 1) / 2, device=device)
    cell_12 = pixels_to_cells(centre_12, model.stride, model.offset)

    def describe_batch(patches_BHW: torch.Tensor) -> torch.Tensor:
        images_B1HW = patches_BHW[:, None].to(device).float() / 255
        images_BCHW = images_B1HW.expand(-1, model.network.channels, -1, -1)
        features_BDHW = model.network(images_BCHW.contiguous(memory_format=torch.channels_last))
        maps_BHWD = features_BDHW.permute(0, 2, 3, 1).contiguous()
        return torch.cat([read_spline(map_HWD, cell_12) for map_HWD in maps_BHWD]).cpu()

    @torch.inference_mode()
    def describe(patches_NHW: Pixels) -> Floats:
        patches = torch.from_numpy(patches_NHW)
        batches = torch.split(patches, _BATCH)
        described: Floats = torch.cat([describe_batch(batch) for batch in batches]).numpy()
        return described

    return describe
