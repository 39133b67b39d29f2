"""FPR95 of a descriptor on a folder of Brown's patches; each patch is described once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ucn.evaluation.scores.brown_patches import PATCH, Ints, PatchPairs, read_patches
from ucn.evaluation.scores.patches import fpr95, patch_similarities
from ucn.matching.descriptors import Floats, Pixels
from ucn.matching.features import sample_features
from ucn.training.model import Model

DescribePatches = Callable[[Pixels], Floats]
"""From patches_NHW, uint8, to descriptors_ND, float32 of unit length (or zero), N > 0. A
`ucn.matching.descriptors.Describe` becomes one by ``partial(describe_patches, describe=...)``."""

# Four sheets: 4 MB of pixels.
_CHUNK = 1024
# More at once gain nothing on a CPU: their activations leave its cache.
_BATCH = 16


def network_patch_describer(model: Model) -> DescribePatches:
    """Describe patches with a network, many in a pass, each by its feature at the centre.

    The same as `.patches.describe_patches` with the network's `Describe`, up to
    rounding.
    """
    device = next(model.network.parameters()).device
    centre_112 = torch.full((1, 1, 2), (PATCH - 1) / 2, device=device)

    def describe_batch(patches_BHW: torch.Tensor) -> torch.Tensor:
        images_B1HW = patches_BHW[:, None].to(device).float() / 255
        images_BCHW = images_B1HW.expand(-1, model.network.channels, -1, -1)
        features_BDHW = model.network(images_BCHW.contiguous(memory_format=torch.channels_last))
        points_B12 = centre_112.expand(len(patches_BHW), -1, -1)
        return sample_features(features_BDHW, points_B12, model.stride, model.offset)[:, 0].cpu()

    @torch.inference_mode()
    def describe(patches_NHW: Pixels) -> Floats:
        patches = torch.from_numpy(patches_NHW)
        batches = torch.split(patches, _BATCH)
        described: Floats = torch.cat([describe_batch(batch) for batch in batches]).numpy()
        return described

    return describe


def patch_chunks(pairs: PatchPairs) -> list[Ints]:
    """List the distinct patches of pairs in chunks, ascending; no sheet is in two chunks."""
    numbers_P = np.unique([pairs.first_N, pairs.second_N])
    return np.split(numbers_P, np.flatnonzero(np.diff(numbers_P // _CHUNK)) + 1)


def describe_chunk(folder: Path, numbers_N: Ints, describe: DescribePatches) -> Floats:
    """Read patches by number and describe them: float32 [N, D].

    Raises:
        UserError: as `ucn.evaluation.scores.brown_patches.read_patches`.
    """
    return describe(read_patches(folder, numbers_N))


def score_patches(pairs: PatchPairs, described_PD: Floats) -> float:
    """FPR95 of pairs, percent.

    Args:
        described_PD: of all chunks of :func:`patch_chunks`, one below the other.

    Raises:
        ValueError: as `ucn.evaluation.scores.patches.fpr95`.
    """
    _, place_2N = np.unique([pairs.first_N, pairs.second_N], return_inverse=True)
    first_N, second_N = place_2N.reshape(2, -1)
    scores_N = patch_similarities(described_PD[first_N], described_PD[second_N])
    return fpr95(scores_N, pairs.same_N)
