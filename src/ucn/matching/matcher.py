"""The dense matcher: finds points of one image in another by their descriptors.

Validation, evaluation and `ucn match` all match by these functions.
"""

import numpy as np
import torch
from torch import Tensor

from ucn.matching.descriptors import Floats
from ucn.matching.exclusion import Exclusion
from ucn.matching.features import Features, cells_to_pixels, pixels_to_cells
from ucn.matching.filters import forward_backward_error
from ucn.matching.scales import nearest_at_any_scale, relative_scales
from ucn.matching.search import search
from ucn.matching.spline import climb

STEP_PX = 2.0
"""Default step of the searched lattice, in x and in y, pixels."""


def find(
    queries_ND: Tensor,
    features: Features,
    *,
    step_px: float = STEP_PX,
    subpixel: bool = True,
    memory_mib: int = 256,
) -> tuple[Floats, Floats]:
    """Finds the position of an image that is most similar to each query.

    The search over a lattice of positions is exact. Around the best one the similarity is then
    maximised between the cells; a point of the same image is found where it is.

    Args:
        queries_ND: descriptors of `Features.read`.
        features: the image, described at as many levels as the queries.
        step_px: step of the lattice, pixels; see `Features.lattice`.
        subpixel: whether to refine the positions.
        memory_mib: bound on the similarities held at once.

    Returns:
        positions_N2: float32 pixels (x, y), inside the image.
        similarity_N: float32 cosine similarity.
    """
    if not len(queries_ND):
        return np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
    cells_MD, grid = features.lattice(step_px)
    index_N, similarity_N, queries_ND = nearest_at_any_scale(
        queries_ND, cells_MD, features.levels, memory_mib
    )
    place_N2 = torch.stack([index_N % grid.width, index_N // grid.width], dim=1)
    positions_N2 = cells_to_pixels(place_N2.double(), grid.stride, grid.offset)
    if subpixel:
        _, _, stride, offset = features.grid
        start_N2 = pixels_to_cells(positions_N2, stride, offset)
        reach = round(grid.stride / stride) if grid.stride > stride else 0
        cells_N2, similarity_N = climb(queries_ND, features.map_HWD, start_N2, reach)
        positions_N2 = cells_to_pixels(cells_N2, stride, offset)
    last_2 = positions_N2.new_tensor(features.size) - 1
    inside_N2 = torch.minimum(positions_N2.clamp(min=0), last_2)
    return inside_N2.float().cpu().numpy(), similarity_N.clamp(max=1).float().cpu().numpy()


def second_similarities(
    queries_ND: Tensor,
    features: Features,
    positions_N2: Floats,
    radius_px: float,
    *,
    step_px: float = STEP_PX,
    memory_mib: int = 256,
) -> Floats:
    """Similarity to the second-best position, for the ratio test.

    On a dense map the neighbours of a match are similar to it. So positions near the match are
    not candidates.

    Args:
        queries_ND, features, step_px, memory_mib: as in :func:`find`.
        positions_N2: the matches, pixels.
        radius_px: radius of the excluded disc.

    Returns:
        float32 [N]; -inf if the radius covers the whole image.
    """
    cells_MD, grid = features.lattice(step_px)
    best_N2 = torch.from_numpy(positions_N2).to(queries_ND.device)
    exclusion = Exclusion(best_N2, grid, radius_px)
    outside_KN = [
        search(moved_ND, cells_MD, exclusion=exclusion, memory_mib=memory_mib).similarity_N
        for moved_ND in relative_scales(queries_ND, features.levels)
    ]
    second_N: Floats = torch.stack(outside_KN).amax(dim=0).cpu().numpy()
    return second_N


def backward_errors(
    points0_N2: Floats,
    features0: Features,
    positions1_N2: Floats,
    features1: Features,
    *,
    step_px: float = STEP_PX,
    memory_mib: int = 256,
) -> Floats:
    """Distance between each point and its match's match in image 0, pixels: float32 [N]."""
    back_N2, _ = find(
        features1.read(positions1_N2), features0, step_px=step_px, memory_mib=memory_mib
    )
    return forward_backward_error(points0_N2, back_N2)
