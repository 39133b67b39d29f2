"""Stages and storage locations of configurations."""

import yaml

from ucn.pipeline.locations import locations_of
from ucn.pipeline.stages import check_stage, guess_stage, to_yaml


def test_values_are_written_in_their_order_and_read_as_they_were() -> None:
    values = {"b": 1e-5, "a": ["x: y", None, "0009", "on", True, 1.0]}
    assert list(yaml.safe_load(to_yaml(values)).items()) == list(values.items())
    assert to_yaml("kitti-raw") == "kitti-raw"


def test_locations_of_a_run_are_named_by_their_options() -> None:
    values = {
        "out": "/run",
        "shards": {
            "train": {"source": "kitti-raw", "root": "/kitti"},
            "test": {"source": "synthetic", "root": "/worlds", "out": "s3://b/test"},
        },
        "evaluate": {"patches": ["/patches"], "external": ["raft=/flows"]},
    }
    assert guess_stage(values) == "run"
    locations = {
        one.option: (one.uri, one.role) for one in locations_of(check_stage("run", values))
    }
    assert locations["shards.train.root"] == ("/kitti", "input")
    assert locations["shards.train.out"] == ("/run/shards/train", "output")
    assert locations["shards.test.root"] == ("/worlds", "output")
    assert locations["shards.test.out"] == ("s3://b/test", "output")
    assert locations["evaluate.model"] == ("/run/train/model", "intermediate")
    assert locations["evaluate.patches"] == ("/patches", "input")
    assert locations["evaluate.external"] == ("/flows", "input")
    # Shards that one stage makes and the next reads are listed once.
    assert "train.data.shards" not in locations


def test_the_stage_of_a_configuration_is_guessed_by_its_options() -> None:
    assert guess_stage({"source": "sintel"}) == "preprocess"
    assert guess_stage({"shards": ["/a"]}) == "evaluate"
    assert guess_stage({"steps": 3}) == "train"
