"""Patch verification: are two patches of the same point, as told by one descriptor each."""

import numpy as np
from numpy.typing import NDArray

from ucn.matching.descriptors import Describe, Floats, Pixels


def fpr95(scores_N: NDArray[np.floating], same_N: NDArray[np.bool_]) -> float:
    """False positive rate at 95 % recall, percent (Brown, Hua and Winder, PAMI 2011).

    Pairs are accepted from the highest score down until at least 95 % of the matching ones are;
    pairs of equal scores are accepted together, so that the figure does not depend on their order
    and a constant score gives 100.

    Args:
        scores_N: larger for patches that look more alike; infinite ones are allowed.
        same_N: whether the two patches show the same point.

    Returns:
        The share of pairs of different points that are accepted.

    Raises:
        ValueError: shapes that disagree, an undefined score, or no pair of either kind.
    """
    if scores_N.ndim != 1 or scores_N.shape != same_N.shape or same_N.dtype != np.bool_:
        raise ValueError(f"{scores_N.shape} scores of {same_N.shape} {same_N.dtype} labels")
    if np.isnan(scores_N).any():
        raise ValueError("a score is undefined")
    positive, negative = np.sort(scores_N[same_N]), scores_N[~same_N]
    if not len(positive) or not len(negative):
        raise ValueError(f"{len(positive)} matching and {len(negative)} other pairs; both needed")
    # In whole numbers: 0.95 has no exact binary value.
    accepted = -(-95 * len(positive) // 100)
    return float(100.0 * np.mean(negative >= positive[-accepted]))


def describe_patches(patches_NHW: Pixels, describe: Describe) -> Floats:
    """Describe each patch by the descriptor at its centre: float32 [N, D].

    Args:
        patches_NHW: uint8, N > 0.

    Raises:
        ValueError: no patches.
    """
    if patches_NHW.ndim != 3 or not len(patches_NHW):
        raise ValueError(f"patches of shape {patches_NHW.shape}; [N, H, W] wanted")
    height, width = patches_NHW.shape[1:]
    centre_12 = np.array([[(width - 1) / 2, (height - 1) / 2]], np.float32)
    return np.concatenate([describe(patch_HW, centre_12) for patch_HW in patches_NHW])


def patch_similarities(first_ND: Floats, second_ND: Floats) -> Floats:
    """Cosine of each patch's descriptor with that of its partner: float32 [N]."""
    if first_ND.shape != second_ND.shape:
        raise ValueError(f"descriptors {first_ND.shape} and {second_ND.shape}")
    similarities_N: Floats = np.einsum("nd,nd->n", first_ND, second_ND)
    return similarities_N
