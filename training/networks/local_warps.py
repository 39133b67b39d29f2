"""Transformations of the taps of a k x k kernel, as a convolutional spatial transformer has them.

Choy et al., "Universal Correspondence Network", NIPS 2016, section 3.2. Every parameter is a
deviation from the identity, and what moves a tap is linear in the warp's coefficients::

    position = tap + coefficients_Q @ basis_QK2

with tap and position (x, y) in cells from the middle of the kernel. The coefficients are the
parameters themselves, but for `rotation`.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class LocalWarp(NamedTuple):
    """One kind of transformation.

    Attributes:
        num_parameters: predicted for each location.
        basis: from the taps [K, 2] to the displacements of all taps by each coefficient, float64
            [Q, K, 2].
        coefficients: from parameters [B, num_parameters, H, W] to coefficients [B, Q, H, W].
    """

    num_parameters: int
    basis: Callable[[Tensor], Tensor]
    coefficients: Callable[[Tensor], Tensor] = torch.nn.Identity()


def kernel_taps(kernel: int) -> Tensor:
    """Where the taps lie.

    Args:
        kernel: k, odd and at least 3.

    Returns:
        (x, y) from the middle, float64 [k * k, 2], row by row as the kernel's weights are.

    Raises:
        ValueError: another k.
    """
    if kernel < 3 or kernel % 2 == 0:
        raise ValueError(f"a kernel of {kernel} has no grid around a middle; take 3, 5, 7, ...")
    along = torch.arange(kernel, dtype=torch.float64) - kernel // 2
    y_kk, x_kk = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([x_kk.flatten(), y_kk.flatten()], dim=1)


def affine_basis(taps_K2: Tensor) -> Tensor:
    """2x2 matrices: coefficients a, b, c, d move (x, y) by (a x + b y, c x + d y)."""
    x_K, y_K = taps_K2.unbind(1)
    zero_K = torch.zeros_like(x_K)
    moved = [(x_K, zero_K), (y_K, zero_K), (zero_K, x_K), (zero_K, y_K)]
    return torch.stack([torch.stack(one, dim=1) for one in moved])


def similarity_basis(taps_K2: Tensor) -> Tensor:
    """Rotation and scale: (1 + a) + i b times x + i y, of modulus scale and argument angle.

    Unlike a logarithm of the scale, a and b cannot overflow.
    """
    x_K, y_K = taps_K2.unbind(1)
    return torch.stack([taps_K2, torch.stack([-y_K, x_K], dim=1)])


def rotation_coefficients(angles_B1HW: Tensor) -> Tensor:
    """A rotation, angle in radians from x towards y, as a similarity of scale 1."""
    return torch.cat([angles_B1HW.cos() - 1, angles_B1HW.sin()], dim=1)


def thin_plate_basis(taps_K2: Tensor) -> Tensor:
    """Thin-plate spline through 3x3 control points over the taps (Bookstein, PAMI 1989).

    They are the corners, the middles of the edges, and the middle; coefficients are their
    displacements, x of all and then y of all. Those of a 3x3 kernel are its taps.
    """
    controls_N2 = kernel_taps(3) * taps_K2.abs().max()
    num_controls = len(controls_N2)
    # Bending weights w and a plane a: [[U, P], [P', 0]] [w, a] = [displacements, 0].
    plane_N3 = _with_one(controls_N2)
    system = torch.zeros(num_controls + 3, num_controls + 3, dtype=torch.float64)
    system[:num_controls, :num_controls] = _thin_plate(controls_N2, controls_N2)
    system[:num_controls, num_controls:] = plane_N3
    system[num_controls:, :num_controls] = plane_N3.T
    evaluated = torch.cat([_thin_plate(taps_K2, controls_N2), _with_one(taps_K2)], dim=1)
    spline_NK = torch.linalg.solve(system, evaluated.T)[:num_controls]
    zero_NK = torch.zeros_like(spline_NK)
    return torch.cat(
        [torch.stack([spline_NK, zero_NK], dim=2), torch.stack([zero_NK, spline_NK], dim=2)]
    )


def _thin_plate(points_M2: Tensor, controls_N2: Tensor) -> Tensor:
    """U = r^2 log r, and 0 at 0."""
    distances_MN = torch.cdist(points_M2, controls_N2)
    return torch.xlogy(distances_MN.square(), distances_MN)


def _with_one(points_N2: Tensor) -> Tensor:
    return torch.cat([points_N2, torch.ones_like(points_N2[:, :1])], dim=1)


WARPS = {
    "affine": LocalWarp(4, affine_basis),
    "similarity": LocalWarp(2, similarity_basis),
    "rotation": LocalWarp(1, similarity_basis, rotation_coefficients),
    "thin_plate": LocalWarp(18, thin_plate_basis),
}
