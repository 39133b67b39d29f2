"""Parts of the synthetic worlds against closed forms and brute force."""

from types import SimpleNamespace

import numpy as np
import pykitti.utils
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ucn.preprocessing.sources.synthetic.config import WorldSpec
from ucn.preprocessing.sources.synthetic.materials import textures
from ucn.preprocessing.sources.synthetic.scene.scenario import make_store, plan_scenario
from ucn.preprocessing.sources.synthetic.scene.trajectory import Attitude, random_wave
from ucn.preprocessing.sources.synthetic.sensors import lidar, oxts
from ucn.preprocessing.sources.synthetic.sensors.photometry import expose
from ucn.preprocessing.sources.synthetic.sensors.raycast import (
    Bounds,
    RayGrid,
    ray_coefficients,
    trace,
)


def test_texture_splits_share_no_photograph():
    train, heldout = set(textures.photo_names("train")), set(textures.photo_names("heldout"))
    assert not train & heldout
    assert set(textures.photo_names("all")) == train | heldout
    assert not any("motorcycle" in name for name in train | heldout)
    assert len(textures.load_photos("heldout")) == len(heldout)


def test_mip_look_up_of_a_ramp_is_linear_and_coarse_levels_give_the_mean():
    ramp = np.tile(np.arange(64, dtype=np.float32) / 255, (64, 1))
    atlas = textures.mip_atlas(ramp)
    uv = np.array([[(10.5 + 0.5) / 64, 0.3], [(20.25 + 0.5) / 64, 0.9]], np.float32)
    tiny = np.full((2, 2), 1e-6, np.float32)
    fine = textures.sample_atlas(atlas, uv, tiny, tiny, 2)
    np.testing.assert_allclose(fine * 255, [10.5, 20.25], atol=0.6)
    whole = np.array([[4, 0], [0, 4]], np.float32)
    middle = np.array([[0.5, 0.3], [0.0, 0.9]], np.float32)
    coarse = textures.sample_atlas(atlas, middle, whole, whole[::-1], 1)
    np.testing.assert_allclose(coarse * 255, 31.5, atol=1.5)


def test_look_up_repeats_in_both_directions():
    rng = np.random.default_rng(0)
    atlas = textures.mip_atlas(rng.random((32, 64, 3)).astype(np.float32))
    uv = rng.random((50, 2)).astype(np.float32)
    step = np.full((50, 2), 0.02, np.float32)
    moved = uv + np.array([3, -2], np.float32)
    np.testing.assert_allclose(
        textures.sample_atlas(atlas, uv, step, step, 2),
        textures.sample_atlas(atlas, moved, step, step, 2),
        atol=0.02,
    )


def test_spectral_noise_is_standard_and_tiles():
    noise = textures.spectral_noise(np.random.default_rng(1), 128, 128, 1.2)
    assert abs(noise.mean()) < 1e-4
    assert abs(noise.std() - 1) < 1e-4
    seam = np.abs(noise[:, 0] - noise[:, -1]).mean()
    inside = np.abs(np.diff(noise, axis=1)).mean()
    assert seam < 1.5 * inside


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_trace_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    count = 6
    origin = rng.uniform((-3, -3, 2), (3, 3, 8), (count, 3))
    edge_u, edge_v = rng.uniform(-3, 3, (2, count, 3))
    rows, columns = np.zeros((9, 3)), np.zeros((11, 3))
    rows[:, 1], rows[:, 2] = np.linspace(-0.6, 0.6, 9), 1
    columns[:, 0] = np.linspace(-0.7, 0.7, 11)
    everywhere = Bounds(
        np.zeros(count, int), np.full(count, 9), np.zeros(count, int), np.full(count, 11)
    )
    index = trace(
        RayGrid(rows, columns),
        ray_coefficients(origin, edge_u, edge_v),
        everywhere,
        np.full(count, -1, np.int16),
        [],
    )
    for r in range(9):
        for c in range(11):
            ray = rows[r] + columns[c]
            distances, margins = [], []
            for k in range(count):
                system = np.stack([ray, -edge_u[k], -edge_v[k]], axis=1)
                t, u, v = np.linalg.solve(system, origin[k])
                margins.append(min(abs(x) for x in (t, u, v, 1 - u, 1 - v)))
                hit = t > 0 and 0 <= u <= 1 and 0 <= v <= 1
                distances.append(t if hit else np.inf)
            first, second = sorted(distances)[:2]
            tie = first < np.inf and second < first + 1e-4
            if tie or min(margins) < 1e-4:
                continue
            expected = distances.index(first) if first < np.inf else -1
            assert index[r, c] == expected


@settings(max_examples=40, deadline=None)
@given(
    east=st.floats(-2000, 2000),
    north=st.floats(-2000, 2000),
    up=st.floats(-50, 50),
    yaw=st.floats(-3.1, 3.1),
    pitch=st.floats(-0.1, 0.1),
    roll=st.floats(-0.1, 0.1),
)
def test_oxts_survive_pykitti(tmp_path_factory, east, north, up, yaw, pitch, roll):
    folder = tmp_path_factory.mktemp("oxts")
    start = Attitude(np.array([5.0, -7.0, 1.0]), 0.0, 0.0, 0.3)
    offset = np.array([east, north, up])
    other = Attitude(start.position_3 + offset, roll, pitch, yaw)
    files = []
    for number, line in enumerate(oxts.packets([start, other])):
        files.append(folder / f"{number}.txt")
        files[-1].write_text(line)
    read = pykitti.utils.load_oxts_packets_and_poses([str(file) for file in files])
    expected = other.transform
    expected[:3, 3] -= start.position_3
    np.testing.assert_allclose(read[1].T_w_imu, expected, atol=1e-6)


def test_scan_hits_the_ground_on_64_cones(monkeypatch):
    spec = WorldSpec(range_noise=0, dropout=0, scan_degrees=90, max_range=60)
    height = 1.7
    ground = SimpleNamespace(
        origin_N3=np.array([[-500.0, -500, 0]]),
        edge_u_N3=np.array([[1000.0, 0, 0]]),
        edge_v_N3=np.array([[0, 1000.0, 0]]),
        two_sided_N=np.array([False]),
        mask_N=np.array([-1], np.int16),
        material_N=np.array([0], np.int16),
    )
    sensor = np.eye(4)
    sensor[2, 3] = height
    world = SimpleNamespace(
        spec=spec,
        surfaces=lambda frame: ground,
        T_map_velo=lambda frame: sensor,
        masks=[],
        materials=[SimpleNamespace(reflectance=0.3)],
    )
    points = lidar.scan(world, 0).astype(np.float64)
    np.testing.assert_allclose(points[:, 2], -height, atol=1e-5)
    beams = np.degrees(lidar.beam_elevations())
    distance = np.linalg.norm(points[:, :3], axis=1)
    elevation = np.degrees(np.arcsin(points[:, 2] / distance))
    nearest = np.abs(elevation[:, None] - beams).min(axis=1)
    assert nearest.max() < 1e-3
    reaching = beams < -np.degrees(np.arcsin(height / spec.max_range))
    assert len(np.unique(elevation.round(3))) == reaching.sum()
    assert len(points) == reaching.sum() * 500
    azimuth = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
    assert np.abs(azimuth).max() < 45
    np.testing.assert_allclose(np.diff(np.unique(azimuth.round(3))), 0.18, atol=2e-3)


def test_beams_and_steps_are_those_of_the_scanner():
    beams = np.degrees(lidar.beam_elevations())
    assert len(beams) == 64
    assert beams[0] == pytest.approx(2)
    assert beams[-1] == pytest.approx(-24.33)
    assert np.all(np.diff(beams) < 0)
    full = lidar.azimuths(360)
    assert len(full) == 2000
    assert full[0] > -np.pi
    assert full[-1] < np.pi


def test_exposure_differs_between_frames_and_is_off_at_zero():
    radiance = np.random.default_rng(0).random((20, 30, 3)).astype(np.float32)
    spec = WorldSpec(width=30, height=20)
    first, second = expose(radiance, spec, 0, 2), expose(radiance, spec, 1, 2)
    assert np.abs(first.astype(int) - second).mean() > 1
    np.testing.assert_array_equal(first, expose(radiance, spec, 0, 2))
    clean = expose(radiance, spec.model_copy(update={"photometric": 0}), 0, 2)
    np.testing.assert_array_equal(clean, np.round(radiance * 255))


def test_waves_have_the_asked_deviation():
    wave = random_wave(np.random.default_rng(3), 0.5, 5, 50)
    values = wave(np.arange(0, 20_000, 0.5))
    assert values.std() == pytest.approx(0.5, rel=0.1)
    assert abs(values.mean()) < 0.05


def test_worlds_of_other_seeds_differ_and_cars_keep_to_the_road():
    layouts = []
    for seed in (1, 2):
        spec = WorldSpec(seed=seed, frames=20, movers=4)
        scenario = plan_scenario(spec, *make_store(spec))
        layouts.append(scenario.road.position_N2[-1])
        for vehicle in [*scenario.movers, *scenario.parked]:
            offsets = scenario.road.position_N2 - vehicle.poses_F44[0, :2, 3]
            assert np.linalg.norm(offsets, axis=1).min() < 7
        assert [vehicle.instance for vehicle in scenario.movers] == [1, 2, 3, 4]
    assert np.linalg.norm(layouts[0] - layouts[1]) > 1


@pytest.mark.parametrize("fields", [{"stop": (5, 2)}, {"cameras": ()}, {"cameras": (2, 2)}])
def test_impossible_specs_are_refused(fields):
    with pytest.raises(ValidationError):
        WorldSpec(**fields)
