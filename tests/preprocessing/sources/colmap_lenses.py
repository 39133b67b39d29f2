"""COLMAP's camera models by their formulas, on points of the plane at depth 1."""

from collections.abc import Callable
from typing import Any

import numpy as np


def polynomial(theta: np.ndarray, *k: float) -> np.ndarray:
    return theta * (1 + sum(c * theta ** (2 * n) for n, c in enumerate(k, 1)))


def radial(u: np.ndarray, v: np.ndarray, *k: float) -> tuple[np.ndarray, np.ndarray]:
    r2 = u * u + v * v
    factor = 1 + sum(c * r2**n for n, c in enumerate(k, 1))
    return u * factor, v * factor


def tangential(u: np.ndarray, v: np.ndarray, p1: float, p2: float) -> tuple[np.ndarray, np.ndarray]:
    r2 = u * u + v * v
    return 2 * p1 * u * v + p2 * (r2 + 2 * u * u), 2 * p2 * u * v + p1 * (r2 + 2 * v * v)


def fisheye(u: np.ndarray, v: np.ndarray, *k: float) -> tuple[np.ndarray, np.ndarray]:
    r = np.hypot(u, v)
    scale = np.where(r > 0, polynomial(np.arctan(r), *k) / np.where(r > 0, r, 1), 1)
    return u * scale, v * scale


def opencv(u, v, k1, k2, p1, p2):  # type: ignore[no-untyped-def]
    (a, b), (c, d) = radial(u, v, k1, k2), tangential(u, v, p1, p2)
    return a + c, b + d


def full_opencv(u, v, k1, k2, p1, p2, k3, k4, k5, k6):  # type: ignore[no-untyped-def]
    r2 = u * u + v * v
    ratio = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    c, d = tangential(u, v, p1, p2)
    return u * ratio + c, v * ratio + d


def fov(u, v, omega):  # type: ignore[no-untyped-def]
    r = np.hypot(u, v)
    safe = np.where(r > 0, r, 1)
    scale = np.where(
        r > 0,
        np.arctan(2 * safe * np.tan(omega / 2)) / (safe * omega),
        2 * np.tan(omega / 2) / omega,
    )
    return u * scale, v * scale


def thin_prism(u, v, k1, k2, p1, p2, k3, k4, sx1, sy1):  # type: ignore[no-untyped-def]
    a, b = fisheye(u, v)
    r2 = a * a + b * b
    factor = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + k4 * r2**4
    c, d = tangential(a, b, p1, p2)
    return a * factor + c + sx1 * r2, b * factor + d + sy1 * r2


def fisheye624(u, v, k0, k1, k2, k3, k4, k5, p0, p1, s0, s1, s2, s3):  # type: ignore[no-untyped-def]
    """The fisheye model of Project Aria's documentation; p0 goes with x."""
    a, b = fisheye(u, v, k0, k1, k2, k3, k4, k5)
    r2 = a * a + b * b
    c, d = tangential(a, b, p1, p0)
    return a + c + s0 * r2 + s1 * r2**2, b + d + s2 * r2 + s3 * r2**2


def division(u, v, k):  # type: ignore[no-untyped-def]
    """Fitzgibbon's model, u = d / (1 + k d^2), solved for the distorted radius d."""
    r2 = u * u + v * v
    scale = 2 / (1 + np.sqrt(1 - 4 * k * r2))
    return u * scale, v * scale


def enhanced_unified(u, v, alpha, beta):  # type: ignore[no-untyped-def]
    """Khomutenko, Garcia and Martinet's model, on the plane z = 1."""
    below = alpha * np.sqrt(beta * (u * u + v * v) + 1) + 1 - alpha
    return u / below, v / below


def plain(u, v):  # type: ignore[no-untyped-def]
    return u, v


# Number and name of the model, whether it has two focal lengths, its lens, the lens's parameters.
MODELS: dict[str, tuple[int, bool, Callable[..., Any], tuple[float, ...]]] = {
    "SIMPLE_PINHOLE": (0, False, plain, ()),
    "PINHOLE": (1, True, plain, ()),
    "SIMPLE_RADIAL": (2, False, radial, (-0.12,)),
    "RADIAL": (3, False, radial, (0.15, -0.06)),
    "OPENCV": (4, True, opencv, (-0.1, 0.03, 0.004, -0.003)),
    "OPENCV_FISHEYE": (5, True, fisheye, (-0.02, 0.01, 0.003, -0.001)),
    "FULL_OPENCV": (6, True, full_opencv, (0.1, 0.02, 0.001, 0.002, 0.01, 0.2, 0.01, 0.001)),
    "FOV": (7, True, fov, (0.8,)),
    "SIMPLE_RADIAL_FISHEYE": (8, False, fisheye, (0.05,)),
    "RADIAL_FISHEYE": (9, False, fisheye, (0.04, -0.01)),
    "THIN_PRISM_FISHEYE": (
        10,
        True,
        thin_prism,
        (0.02, -0.01, 0.001, -0.002, 0.003, 0.001, 0.002, -0.001),
    ),
    "RAD_TAN_THIN_PRISM_FISHEYE": (
        11,
        True,
        fisheye624,
        (0.03, -0.01, 0.002, 0.001, -0.0004, 0.0001, 0.002, -0.001, 0.003, 0.001, -0.002, 0.0005),
    ),
    "SIMPLE_DIVISION": (12, False, division, (-0.15,)),
    "DIVISION": (13, True, division, (0.1,)),
    "SIMPLE_FISHEYE": (14, False, fisheye, ()),
    "FISHEYE": (15, True, fisheye, ()),
    "EUCM": (16, True, enhanced_unified, (0.6, 1.1)),
}
