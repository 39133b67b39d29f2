"""The dense matcher: finds points of one image in another by their descriptors.

Validation, evaluation and `ucn match` all match by these functions.
"""

import numpy as np
import torch

from ucn.matching.descriptors import Floats
from ucn.matching.exclusion import Exclusion
from ucn.matching.features import Features, cells_to_pixels, pixels_to_cells
from ucn.matching.filters import forward_backward_error
from ucn.matching.scales import nearest_at_any_scale, relative_scales, shift_stacks
from ucn.matching.search import search
from ucn.matching.spline import climb

STEP_PX = 2.0
"""Default step of the searched lattice, in x and in y, pixels."""


def find(
    features0: Features,
    points0_N2: Floats,
    features1: Features,
    *,
    step_px: float = STEP_PX,
    subpixel: bool = True,
    memory_mib: int = 256,
) -> tuple[Floats, Floats]:
    """Finds the position of image 1 that is most similar to each point of image 0.

    The search over a lattice of positions is exact. Its queries are bilinear readings, which find
    more points; around the best position the similarity of spline readings is maximised between
    the cells, without bias. A point of the same image is found where it is.

    Args:
        features0, features1: the images, described at equal numbers of levels.
        points0_N2: pixels (x, y) of image 0.
        step_px: step of the lattice, pixels; see `Features.lattice`.
        subpixel: whether to refine the positions.
        memory_mib: bound on the similarities held at once.

    Returns:
        positions_N2: float32 pixels (x, y), inside image 1.
        similarity_N: float32 cosine similarity.
    """
    if not len(points0_N2):
        return np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
    cells_MD, grid = features1.lattice(step_px)
    index_N, similarity_N, scale_N = nearest_at_any_scale(
        features0.read_sharp(points0_N2), cells_MD, features1.levels, memory_mib
    )
    place_N2 = torch.stack([index_N % grid.width, index_N // grid.width], dim=1)
    positions_N2 = cells_to_pixels(place_N2.double(), grid.stride, grid.offset)
    if subpixel:
        _, _, stride, offset = features1.grid
        start_N2 = pixels_to_cells(positions_N2, stride, offset)
        reach = round(grid.stride / stride) if grid.stride > stride else 0
        queries_ND = shift_stacks(features0.read(points0_N2), features1.levels, scale_N)
        cells_N2, similarity_N = climb(queries_ND, features1.map_HWD, start_N2, reach)
        positions_N2 = cells_to_pixels(cells_N2, stride, offset)
    last_2 = positions_N2.new_tensor(features1.size) - 1
    inside_N2 = torch.minimum(positions_N2.clamp(min=0), last_2)
    return inside_N2.float().cpu().numpy(), similarity_N.clamp(max=1).float().cpu().numpy()


def second_similarities(
    features0: Features,
    points0_N2: Floats,
    features1: Features,
    positions1_N2: Floats,
    radius_px: float,
    *,
    step_px: float = STEP_PX,
    memory_mib: int = 256,
) -> Floats:
    """Similarity to the second-best position, for the ratio test.

    On a dense map the neighbours of a match are similar to it. So positions near the match are
    not candidates. A match at a local maximum may be less similar than its second.

    Args:
        features0, points0_N2, features1, step_px, memory_mib: as in :func:`find`.
        positions1_N2: the matches, pixels.
        radius_px: radius of the excluded disc.

    Returns:
        float32 [N]; -inf if the radius covers the whole image.
    """
    cells_MD, grid = features1.lattice(step_px)
    best_N2 = torch.from_numpy(positions1_N2).to(cells_MD.device)
    exclusion = Exclusion(best_N2, grid, radius_px)
    outside_KN = [
        search(moved_ND, cells_MD, exclusion=exclusion, memory_mib=memory_mib).similarity_N
        for moved_ND in relative_scales(features0.read(points0_N2), features1.levels)
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
    back_N2, _ = find(features1, positions1_N2, features0, step_px=step_px, memory_mib=memory_mib)
    return forward_backward_error(points0_N2, back_N2)
