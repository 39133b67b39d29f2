"""The model that comes with the project: it loads, is small, and matches what it never saw."""

import json
from pathlib import Path

import numpy as np

from ucn.matching.matcher import find
from ucn.training.model import CONFIG, SHIPPED, WEIGHTS, load_model, model_digests, model_place


def test_it_is_small_and_says_where_it_comes_from() -> None:
    folder = Path(model_place(SHIPPED))
    assert (folder / WEIGHTS).stat().st_size < 10e6
    config = json.loads((folder / CONFIG).read_text())
    # Nothing of the machine that it was trained on.
    assert "/" not in json.dumps(config["training"].get("data", {}))
    card = (folder / "README.md").read_text()
    assert model_digests(SHIPPED)[WEIGHTS][:16] in card


def test_it_finds_the_motorcycle_in_the_other_view() -> None:
    from ucn.preprocessing.sources.stereo.motorcycle import MotorcycleConfig

    config = MotorcycleConfig(out="unused", max_matches=2000)
    source = config.open_source()
    sample = source.load(source.pairs()[0])
    model = load_model(SHIPPED)
    features0, features1 = (model.extract(image) for image in (sample.image0, sample.image1))
    found_N2, _ = find(features0, sample.matches_N4[:500, :2], features1)
    errors_N = np.linalg.norm(found_N2 - sample.matches_N4[:500, 2:], axis=1)
    assert (errors_N <= 10).mean() > 0.85
