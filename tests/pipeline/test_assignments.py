"""KEY=VALUE words among flags, and where a configuration reads and writes."""

from pathlib import Path

import yaml

from ucn.pipeline.assignments import read_values, split_assignments
from ucn.pipeline.places import places_of
from ucn.pipeline.stages import check_stage, guess_stage, to_yaml


def test_words_are_told_from_the_values_of_flags() -> None:
    words = ["train", "steps=3", "--config", "a=b.yaml", "--detach", "data.x=[1,2]", "--id=x=y"]
    assert split_assignments(words) == (
        ["steps=3", "data.x=[1,2]"],
        ["train", "--config", "a=b.yaml", "--detach", "--id=x=y"],
    )


def test_words_win_over_files(tmp_path: Path) -> None:
    (tmp_path / "a=b.yaml").write_text("steps: 1\nseed: 2\n")
    (tmp_path / "c.yaml").write_text("seed: 3\npoints: 4\n")
    files = [tmp_path / "a=b.yaml", tmp_path / "c.yaml"]
    assert read_values(files, ["points=5"]) == {"steps": 1, "seed": 3, "points": 5}


def test_values_are_written_in_their_order_and_read_as_they_were() -> None:
    values = {"b": 1e-5, "a": ["x: y", None, "0009", "on", True, 1.0]}
    assert list(yaml.safe_load(to_yaml(values)).items()) == list(values.items())
    assert to_yaml("kitti-raw") == "kitti-raw"


def test_places_of_a_run_are_told_by_their_options() -> None:
    values = {
        "out": "/run",
        "shards": {
            "train": {"source": "kitti-raw", "root": "/kitti"},
            "test": {"source": "synthetic", "root": "/worlds", "out": "s3://b/test"},
        },
        "evaluate": {"patches": ["/patches"]},
    }
    assert guess_stage(values) == "run"
    places = {
        place.option: (place.uri, place.role) for place in places_of(check_stage("run", values))
    }
    assert places["shards.train.root"] == ("/kitti", "input")
    assert places["shards.train.out"] == ("/run/shards/train", "output")
    assert places["shards.test.root"] == ("/worlds", "output")
    assert places["shards.test.out"] == ("s3://b/test", "output")
    assert places["evaluate.model"] == ("/run/train/model", "made")
    assert places["evaluate.patches"] == ("/patches", "input")
    # Shards that one stage makes and the next reads are listed once.
    assert "train.data.shards" not in places


def test_the_stage_of_a_configuration_is_guessed_by_its_options() -> None:
    assert guess_stage({"source": "sintel"}) == "preprocess"
    assert guess_stage({"shards": ["/a"]}) == "evaluate"
    assert guess_stage({"steps": 3}) == "train"
