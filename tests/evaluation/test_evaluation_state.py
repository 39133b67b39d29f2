"""What identifies an evaluation and its matches, and the mark of a finished one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.matches import Matches
from ucn.evaluation.methods.external import ExternalFiles
from ucn.evaluation.state import (
    EvaluationState,
    Finished,
    Inputs,
    _options_0_1_0,
    fingerprints,
    match_identity,
)
from ucn.preprocessing.shards.format import digest

INPUTS = Inputs(
    models={"ucn": {"weights": "1"}, "other": {"weights": "2"}},
    weights="g",
    data={"night": "n", "day": "d"},
    patches=[],
    external={},
)
CONFIG = EvaluateConfig(shards=("night", "day"), model=("ucn=a", "other=b"), baselines=("sift",))
FOUND = {"point": Matches.bare(np.zeros((2, 4), np.float32))}


def changed(**options: object) -> EvaluateConfig:
    return EvaluateConfig.model_validate(CONFIG.model_dump() | options)


def identities(config: EvaluateConfig = CONFIG, inputs: Inputs = INPUTS) -> list[str]:
    return [
        match_identity(config, inputs, which, method)
        for which in (0, 1)
        for method in ("ucn", "other", "sift", "daisy", "googlenet")
    ]


def test_matches_are_identified_by_set_and_method() -> None:
    assert len(set(identities())) == 10
    assert identities() == identities(inputs=replace(INPUTS, external={"raft": ()}))
    other = replace(INPUTS, weights="h")
    same = [one == two for one, two in zip(identities(), identities(inputs=other), strict=True)]
    assert same == [True, True, True, True, False] * 2
    renamed = replace(INPUTS, models={"new": {"weights": "1"}})
    assert match_identity(CONFIG, renamed, 0, "new") == identities()[0]
    files = {"raft": (ExternalFiles("x", 0), ExternalFiles("y", 0))}
    found = [match_identity(CONFIG, replace(INPUTS, external=files), 0, "raft")]
    files["raft"] = (ExternalFiles("z", 0), ExternalFiles("y", 0))
    found.append(match_identity(CONFIG, replace(INPUTS, external=files), 0, "raft"))
    assert found[0] != found[1]


def test_matches_of_a_baseline_are_identified_by_its_class_and_options() -> None:
    one, other = "mine.first:Fast", "mine.second:Fast"
    configs = [
        changed(baselines=(one, "sift")),
        changed(baselines=(other, "sift")),
        changed(baselines=(one, "sift"), baseline_options={one: {"radius": 3}}),
        changed(baselines=(one, "sift"), baseline_options={one: {"radius": 4}}),
    ]
    assert len({match_identity(config, INPUTS, 0, "Fast") for config in configs}) == 4
    assert {match_identity(config, INPUTS, 0, "sift") for config in configs} == {identities()[2]}


@pytest.mark.parametrize(
    "change",
    [
        {"thresholds": (2,)},
        {"alphas": (0.3,)},
        {"displacement_bins_px": ()},
        {"depth_bins_m": ()},
        {"pose": {"estimators": ("poselib",), "seeds": (9,), "thresholds_px": 3.0}},
        {"matching": {"reciprocity_px": 2.0, "memory_mib": 1}},
        {"pictures": 9},
        {"published": {"paper": {"pck/10": 1.0}}},
        {"pairs": 3},
        {"baselines": ("daisy", "sift")},
        {"device": "cuda"},
        {"output": "elsewhere"},
    ],
)
def test_options_of_scores_match_nothing_again(change: dict[str, object]) -> None:
    assert identities(changed(**change)) == identities()


@pytest.mark.parametrize(
    "change",
    [
        {"points": 7},
        {"seed": 1},
        {"sparse": ("sift",)},
        {"keypoints": 7},
        {"filters": True},
        *(
            {"matching": {name: value}}
            for name, value in {
                "grid_step": 1,
                "subpixel": False,
                "scales": 3,
                "second_radius_px": 1.0,
                "pose_queries": ("sift",),
            }.items()
        ),
    ],
)
def test_options_of_matches_match_again(change: dict[str, object]) -> None:
    assert not set(identities(changed(**change))) & set(identities())


def test_the_order_of_detectors_does_not_matter() -> None:
    first, second = (
        changed(sparse=names, matching={"pose_queries": ("stored", *names)})
        for names in (("sift", "fast"), ("fast", "sift"))
    )
    assert identities(first) == identities(second)


def test_evaluations_are_identified_by_options_and_inputs() -> None:
    others = [
        replace(INPUTS, models={}),
        replace(INPUTS, weights=None),
        replace(INPUTS, data={"night": "n"}),
        replace(INPUTS, patches=[["liberty"]]),
        replace(INPUTS, external={"raft": [ExternalFiles("x", 0)]}),
    ]
    found = {fingerprints(CONFIG, inputs)[0] for inputs in (INPUTS, *others)}
    found |= {fingerprints(changed(thresholds=(2,)), INPUTS)[0]}
    assert len(found) == 7
    assert fingerprints(changed(workers=7, output="elsewhere"), INPUTS)[0] in found


def test_single_pairs_are_kept_until_the_evaluation_is_finished(tmp_path: Path) -> None:
    state = EvaluationState(tmp_path / "out", ["a"])
    state.table("night", "ucn", "i" * 64).keep(3, FOUND)
    assert [path.name for path in tmp_path.iterdir()] == ["out.unfinished"]
    other = EvaluationState(tmp_path / "out", ["another fingerprint"])
    table = other.table("night", "ucn", "i" * 64)
    assert 3 in table
    assert 3 not in other.table("night", "ucn", "j" * 64)
    table.publish()
    other.finish("run")
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "finished.json", "matches", "night", "out", "ucn.parquet",
    ]  # fmt: skip
    assert 3 in state.table("night", "ucn", "i" * 64)


def test_finished_results_are_those_of_the_same_evaluation(tmp_path: Path) -> None:
    state = EvaluationState(tmp_path, ["a" * 64])
    assert state.finished() is None
    state.finish("run")
    assert state.finished() == Finished("run")
    assert EvaluationState(tmp_path, ["b" * 64]).finished() is None
    assert EvaluationState(tmp_path, ["b" * 64, "a" * 64]).finished() == Finished("run")
    state.begin()
    assert state.finished() is None


def test_options_of_version_0_1_0_give_its_digest() -> None:
    """The file was written with version 0.1.0."""
    stored = json.loads((Path(__file__).parents[1] / "version_0_1_0.json").read_text())
    config = EvaluateConfig.model_validate(stored["evaluation"]["configuration"])
    expected = stored["evaluation"]["digest of the options"]
    assert digest(_options_0_1_0(config)) == expected
    models = [["ucn", {"weights": "1"}], ["other", {"weights": "2"}]]
    inputs = [models, "g", [["night", "n"], ["day", "d"]], []]
    assert fingerprints(config, INPUTS)[1] == digest([_options_0_1_0(config), *inputs])
    newer = config.matching.model_copy(update={"pose_queries": ("sift",)})
    assert _options_0_1_0(config.model_copy(update={"matching": newer})) is None
