"""FPR95 over a folder of patches: against a search of all thresholds, chunk by chunk, batched."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ucn.errors import UserError
from ucn.evaluation.scores.brown_patches import PatchPairs
from ucn.evaluation.scores.patch_verification import (
    DescribePatches,
    describe_chunk,
    describe_patches,
    network_patch_describer,
    patch_chunks,
    score_patches,
)
from ucn.training.config import NetworkConfig
from ucn.training.model import Model, load_model, save_model
from ucn.training.networks import build_network

NUM_PATCHES = 5 * 256


def verified(folder: Path, describe: DescribePatches, pairs: PatchPairs) -> float:
    """FPR95, chunk by chunk."""
    chunks = [describe_chunk(folder, numbers, describe) for numbers in patch_chunks(pairs)]
    return score_patches(pairs, np.concatenate(chunks))


@pytest.fixture(scope="module")
def sheets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Five sheets of noise, and their patches in order."""
    folder = tmp_path_factory.mktemp("sheets")
    patches = np.random.default_rng(3).integers(0, 256, (NUM_PATCHES, 64, 64), np.uint8)
    for sheet, content in enumerate(patches.reshape(5, 16, 16, 64, 64)):
        pixels = content.swapaxes(1, 2).reshape(1024, 1024)
        assert cv2.imwrite(str(folder / f"patches{sheet:04d}.bmp"), pixels)
    return folder, patches


def random_pairs(count: int, seed: int) -> PatchPairs:
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, NUM_PATCHES, (2, count))
    return PatchPairs(first, second, np.arange(count) % 2 == 0)


def make_model(folder: Path, name: str, **options: int) -> Model:
    torch.manual_seed(0)
    network = build_network(name, options)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    save_model(folder, network, NetworkConfig(name=name, options=options))
    return load_model(folder)


def corner_pixels(patches_NHW: np.ndarray) -> np.ndarray:
    """Eight pixels around zero, of unit length."""
    rows = patches_NHW[:, 0, :8].astype(np.float32) - 127.5
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_verification_against_a_search_of_all_thresholds(sheets: tuple[Path, np.ndarray]) -> None:
    folder, patches = sheets
    pairs = random_pairs(600, seed=1)
    rows = corner_pixels(patches).astype(np.float64)
    cosine = (rows[pairs.first_N] * rows[pairs.second_N]).sum(axis=1)
    right = cosine[pairs.same_N]
    loosest = max(limit for limit in right if (right >= limit).mean() >= 0.95)
    expected = 100 * (cosine[~pairs.same_N] >= loosest - 1e-6).mean()
    assert verified(folder, corner_pixels, pairs) == pytest.approx(expected)


def test_a_descriptor_that_knows_the_points_is_never_wrong(
    sheets: tuple[Path, np.ndarray],
) -> None:
    folder, _ = sheets
    first = np.arange(40)
    pairs = PatchPairs(np.tile(first, 2), np.concatenate([first, first + 700]), np.arange(80) < 40)
    assert verified(folder, corner_pixels, pairs) == 0
    constant = partial(describe_patches, describe=lambda image, points: np.ones((1, 1), np.float32))
    assert verified(folder, constant, pairs) == 100


def test_chunks_hold_each_patch_once_and_spread(sheets: tuple[Path, np.ndarray]) -> None:
    folder, patches = sheets
    pairs = random_pairs(3000, seed=2)
    chunks = patch_chunks(pairs)
    numbers = np.concatenate(chunks)
    assert len(chunks) == 2
    assert numbers.tolist() == sorted(set(pairs.first_N) | set(pairs.second_N))
    of_sheets = [set((chunk // 256).tolist()) for chunk in chunks]
    assert not set.intersection(*of_sheets)
    described = [describe_chunk(folder, chunk, corner_pixels) for chunk in chunks]
    np.testing.assert_array_equal(np.concatenate(described), corner_pixels(patches[numbers]))
    found = score_patches(pairs, np.concatenate(described))
    assert found == verified(folder, corner_pixels, pairs)


@pytest.mark.parametrize(
    ("name", "options"),
    [("small", {"dimension": 16, "width": 8}), ("resunet", {}), ("googlenet", {})],
)
def test_batches_of_patches_are_described_as_one_by_one(
    tmp_path: Path, sheets: tuple[Path, np.ndarray], name: str, options: dict[str, int]
) -> None:
    _, patches = sheets
    model = make_model(tmp_path, name, **options)
    # The last batch is not full.
    chosen = patches[: 64 + 5 if name == "small" else 3]
    batched = network_patch_describer(model)(chosen)
    alone = describe_patches(chosen, lambda image, points: model.extract(image).at(points))
    assert batched.dtype == np.float32
    # Random weights may tell patches apart but faintly.
    spread = alone.std(axis=0).max()
    np.testing.assert_allclose(batched, alone, rtol=0, atol=min(1e-5, 0.02 * spread))
    np.testing.assert_allclose(np.linalg.norm(batched, axis=1), 1, atol=1e-5)


def test_a_missing_sheet_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"patches0000\.bmp: missing"):
        verified(tmp_path, corner_pixels, PatchPairs(*np.zeros((2, 1), int), np.ones(1, bool)))
