"""Descriptors between the cells of a feature map, by cubic B-splines, and where they match best.

Bilinear interpolation averages halfway between cells and not at all on them, so that matches drift
towards positions of equal smoothing. The cubic B-spline smooths nearly the same everywhere. It is
twice differentiable, so that Newton's method finds the most similar position.

Maps are [h, w, D]. Positions are (x, y) in cells; beyond the map its border is repeated.
"""

import itertools

import torch
from torch import Tensor
from torch.nn import functional as F

# Number of windows of 25 cells that are held at once.
_CHUNK = 1024
# Rows of a lattice that are computed at once, which bounds the memory.
_BAND = 64
_NEWTON_STEPS = 10
# Longest step, cells.
_MAX_STEP = 0.3


@torch.no_grad()
def read_spline(map_HWD: Tensor, cells_N2: Tensor) -> Tensor:
    """Reads descriptors at positions: float32 [N, D] of unit length (or zero)."""
    cells_N2 = cells_N2.double()
    centre_N2 = cells_N2.round()
    rows_ND = F.embedding_bag(
        _window(map_HWD, centre_N2),
        map_HWD.flatten(0, 1),
        per_sample_weights=_weights(cells_N2 - centre_N2)[:, 0].to(map_HWD.dtype),
        mode="sum",
    )
    return F.normalize(rows_ND, dim=1)


@torch.no_grad()
def resample_spline(map_HWD: Tensor, every: int, parts: int) -> Tensor:
    """Reads descriptors at every so many cells, or at so many positions a cell, in x and in y.

    Args:
        map_HWD: descriptors of the cells.
        every: distance between positions, cells.
        parts: number of positions a cell, if ``every`` is 1.

    Returns:
        float32 [(h - 1) * parts // every + 1, ...]: the descriptors at positions
        ``i * every / parts`` of unit length (or zero).
    """
    height, width, dimension = map_HWD.shape
    columns = torch.arange(-2, width + 2, device=map_HWD.device).clamp(0, width - 1)
    sampled_HWD = map_HWD.new_empty(
        (height - 1) * parts // every + 1, (width - 1) * parts // every + 1, dimension
    )
    # The outer taps are zero on cells.
    low, high = (0, 5) if parts > 1 else (1, 4)
    phases = list(itertools.product(range(parts), range(parts)))
    offsets_P2 = map_HWD.new_tensor(phases, dtype=torch.float64).flip(1) / parts
    kernels_P55 = _weights(offsets_P2)[:, 0].view(-1, 5, 5)[:, low:high, low:high].to(map_HWD.dtype)
    for start in range(0, height, _BAND * every):
        stop = min(start + _BAND * every, height)
        rows = torch.arange(start - 2 + low, stop - 3 + high, device=map_HWD.device)
        band_HWD = map_HWD[rows.clamp(0, height - 1)][:, columns[low : width + high - 1]]
        last = (stop - 1) * parts // every + parts
        for (y, x), kernel_55 in zip(phases, kernels_P55, strict=True):
            part_HWD = F.conv2d(
                band_HWD.permute(2, 0, 1)[None],
                kernel_55.expand(dimension, 1, -1, -1),
                stride=every,
                groups=dimension,
            )[0].permute(1, 2, 0)
            kept_HWD = sampled_HWD[start * parts // every + y : last : parts, x::parts]
            kept_HWD.copy_(part_HWD[: kept_HWD.shape[0], : kept_HWD.shape[1]])
    return sampled_HWD.div_(sampled_HWD.norm(dim=2, keepdim=True).clamp(min=1e-12))


@torch.no_grad()
def climb(
    queries_ND: Tensor, map_HWD: Tensor, start_N2: Tensor, reach: int = 0
) -> tuple[Tensor, Tensor]:
    """Moves positions to the nearby maximum of the similarity.

    Args:
        queries_ND: unit descriptors.
        map_HWD: unit descriptors of the cells.
        start_N2: positions to start from.
        reach: the maximum is searched around the most similar cell within so many cells of the
            start, in x and in y.

    Returns:
        cells_N2: float64, at most one cell from that cell, in x and in y.
        similarity_N: float64.
    """
    chunks = zip(
        torch.split(queries_ND, _CHUNK), torch.split(start_N2.double(), _CHUNK), strict=True
    )
    parts = [_climb(queries, map_HWD, start, reach) for queries, start in chunks]
    cells, similarities = zip(*parts, strict=True)
    return torch.cat(cells), torch.cat(similarities)


def _climb(
    queries_ND: Tensor, map_HWD: Tensor, start_N2: Tensor, reach: int
) -> tuple[Tensor, Tensor]:
    """Newton's method on the logarithm of the similarity, with steps that never worsen it."""
    centre_N2 = start_N2.round()
    if reach:
        centre_N2 = _best_cell(queries_ND, map_HWD, centre_N2, reach)
    window_NKD = map_HWD.flatten(0, 1)[_window(map_HWD, centre_N2)]
    # All similarities in a window follow from the inner products of its cells.
    dot_NK = (window_NKD @ queries_ND[:, :, None])[..., 0]
    gram_NKK = window_NKD @ window_NKD.mT
    offset_N2 = _best_of_lattice(dot_NK, gram_NKK).double()
    dot_NK, gram_NKK = dot_NK.double(), gram_NKK.double()
    best_N = _similarities(_weights(offset_N2)[:, :1], dot_NK, gram_NKK)[:, 0]
    longest_N = torch.full_like(best_N, _MAX_STEP)
    for _ in range(_NEWTON_STEPS):
        step_N2 = _newton_step(offset_N2, dot_NK, gram_NKK)
        scale_N = (longest_N / step_N2.norm(dim=1).clamp(min=1e-12)).clamp(max=1)
        moved_N2 = (offset_N2 + step_N2 * scale_N[:, None]).clamp(-1, 1)
        similarity_N = _similarities(_weights(moved_N2)[:, :1], dot_NK, gram_NKK)[:, 0]
        better_N = similarity_N > best_N
        offset_N2 = torch.where(better_N[:, None], moved_N2, offset_N2)
        best_N = torch.where(better_N, similarity_N, best_N)
        longest_N = torch.where(better_N, longest_N, longest_N / 4)
    return centre_N2 + offset_N2, best_N


def _best_cell(queries_ND: Tensor, map_HWD: Tensor, centre_N2: Tensor, reach: int) -> Tensor:
    """The most similar cell in a window of ``2 reach + 1`` cells in x and in y."""
    height, width = map_HWD.shape[:2]
    steps = torch.arange(-reach, reach + 1, device=centre_N2.device, dtype=centre_N2.dtype)
    y_S2, x_S2 = torch.meshgrid(steps, steps, indexing="ij")
    cells_NS2 = centre_N2[:, None] + torch.stack([x_S2.flatten(), y_S2.flatten()], dim=1)
    last_2 = cells_NS2.new_tensor([width - 1, height - 1])
    cells_NS2 = torch.minimum(cells_NS2.clamp(min=0), last_2)
    rows_NSD = read_spline(map_HWD, cells_NS2.flatten(0, 1)).view(*cells_NS2.shape[:2], -1)
    best_N = (rows_NSD @ queries_ND[:, :, None])[..., 0].argmax(dim=1)
    return cells_NS2[torch.arange(len(best_N), device=best_N.device), best_N]


def _best_of_lattice(dot_NK: Tensor, gram_NKK: Tensor) -> Tensor:
    """The best of 9 x 9 offsets, a quarter of a cell apart."""
    steps = torch.linspace(-1, 1, 9, dtype=dot_NK.dtype, device=dot_NK.device)
    y_L, x_L = (grid.flatten() for grid in torch.meshgrid(steps, steps, indexing="ij"))
    offsets_L2 = torch.stack([x_L, y_L], dim=1)
    return offsets_L2[_similarities(_weights(offsets_L2)[:, 0], dot_NK, gram_NKK).argmax(dim=1)]


def _similarities(weights_LK: Tensor, dot_NK: Tensor, gram_NKK: Tensor) -> Tensor:
    """Cosine similarities [N, L] at L offsets; weights are [L, K] for all windows or [N, L, K]."""
    numerator_NL = (weights_LK @ dot_NK[:, :, None])[..., 0]
    squared_NL = ((weights_LK @ gram_NKK) * weights_LK).sum(dim=2)
    return numerator_NL / squared_NL.clamp(min=1e-12).sqrt()


def _newton_step(offset_N2: Tensor, dot_NK: Tensor, gram_NKK: Tensor) -> Tensor:
    """Newton step for log(w d) - log(w G w) / 2; along the gradient where that is not concave."""
    weights_N6K = _weights(offset_N2)
    value, x, y, xx, yy, xy = (weights_N6K @ dot_NK[:, :, None])[..., 0].unbind(dim=1)
    products_N66 = weights_N6K @ gram_NKK @ weights_N6K.mT
    value = torch.where(value.abs() < 1e-6, 1e-6, value)
    squared = products_N66[:, 0, 0].clamp(min=1e-12)

    def second(dot: Tensor, dot_a: Tensor, dot_b: Tensor, ab: int, a: int, b: int) -> Tensor:
        log_dot = dot / value - dot_a * dot_b / value**2
        half = products_N66[:, 0, ab] + products_N66[:, a, b]
        return log_dot - half / squared + 2 * mixed[a] * mixed[b]

    mixed = {axis: products_N66[:, 0, axis] / squared for axis in (1, 2)}
    gx, gy = x / value - mixed[1], y / value - mixed[2]
    hxx, hyy = second(xx, x, x, 3, 1, 1), second(yy, y, y, 4, 2, 2)
    hxy = second(xy, x, y, 5, 1, 2)
    # A coordinate that the gradient presses against the border of the window stays there.
    fixed_x, fixed_y = (
        (offset_N2.abs() >= 1)
        .logical_and(offset_N2 * torch.stack([gx, gy], dim=1) > 0)
        .unbind(dim=1)
    )
    gx, hxx = torch.where(fixed_x, 0, gx), torch.where(fixed_x, -1, hxx)
    gy, hyy = torch.where(fixed_y, 0, gy), torch.where(fixed_y, -1, hyy)
    hxy = torch.where(fixed_x | fixed_y, 0, hxy)
    determinant = hxx * hyy - hxy**2
    is_concave = (hxx < 0) & (determinant > 1e-12)
    determinant = torch.where(is_concave, determinant, 1)
    newton_2N = torch.stack([hxy * gy - hyy * gx, hxy * gx - hxx * gy]) / determinant
    return torch.where(is_concave, newton_2N, torch.stack([gx, gy])).T


def _weights(offsets_N2: Tensor) -> Tensor:
    """Weights of a window's cells at offsets in [-1, 1] from its centre, and their derivatives.

    Returns:
        [N, 6, 25]: the weights, then d/dx, d/dy, d2/dx2, d2/dy2 and d2/dxdy; cells row by row.
    """
    taps = torch.arange(-2, 3, device=offsets_N2.device)
    distance_N25 = offsets_N2[:, :, None] - taps
    length_N25 = distance_N25.abs()
    rest = (2 - length_N25).clamp(min=0)
    near = (1 - length_N25).clamp(min=0)
    sign = distance_N25.sign()
    # The cubic B-spline is ((2 - |d|)^3 - 4 (1 - |d|)^3) / 6, each term only where positive.
    order_3N25 = (
        (rest**3 - 4 * near**3) / 6,
        -sign * (rest**2 - 4 * near**2) / 2,
        rest - 4 * near,
    )
    (x0, y0), (x1, y1), (x2, y2) = (order.unbind(dim=1) for order in order_3N25)
    pairs = ((y0, x0), (y0, x1), (y1, x0), (y0, x2), (y2, x0), (y1, x1))
    return torch.stack([(y[:, :, None] * x[:, None]).flatten(1) for y, x in pairs], dim=1)


def _window(map_HWD: Tensor, centre_N2: Tensor) -> Tensor:
    """Row-major indices [N, 25] of the 5 x 5 cells around centres; the border is repeated."""
    height, width = map_HWD.shape[:2]
    taps = torch.arange(-2, 3, device=centre_N2.device)
    x_N5 = (centre_N2[:, :1].long() + taps).clamp(0, width - 1)
    y_N5 = (centre_N2[:, 1:].long() + taps).clamp(0, height - 1)
    return (y_N5[:, :, None] * width + x_N5[:, None]).flatten(1)
