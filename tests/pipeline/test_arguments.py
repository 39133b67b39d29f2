"""Layers of configuration: later files over earlier ones, KEY=VALUE over files, flags over all."""

from pathlib import Path

import pytest

from ucn.errors import UserError
from ucn.evaluation.config import EvaluateConfig
from ucn.pipeline.arguments import (
    merge,
    parse,
    read_layers,
    read_values,
    split_assignments,
)
from ucn.training.config import TrainConfig


def test_merge_goes_into_trees_and_replaces_leaves() -> None:
    below = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merge(below, {"a": {"y": [3]}, "c": None}) == {
        "a": {"x": 1, "y": [3]},
        "b": 1,
        "c": None,
    }
    assert below == {"a": {"x": 1, "y": [1, 2]}, "b": 1}


def test_later_layers_win(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("steps: 100\nseed: 5\nnetwork: {name: small}\n")
    (tmp_path / "b.yaml").write_text("steps: 200\n")
    args = ["--config", str(tmp_path / "a.yaml"), f"--config={tmp_path / 'b.yaml'}"]
    values, rest = read_layers([*args, "network.options.dimension=32", "--workers", "2"])
    assert values == {
        "steps": 200,
        "seed": 5,
        "network": {"name": "small", "options": {"dimension": 32}},
    }
    assert rest == ["--workers", "2"]

    flags = ["network.options.dimension=32", "--batch-size", "6", "--steps", "300", "--workers=2"]
    config = parse(TrainConfig, [*args, *flags], "ucn train", "", layered=True)
    assert (config.steps, config.seed, config.batch_size, config.workers) == (300, 5, 6, 2)
    assert config.network.options == {"dimension": 32}


def test_values_that_do_not_go_together_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="workers: 3 share 2 groups") as error:
        parse(TrainConfig, ["batch_size=4", "workers=3"], "ucn train", "", layered=True)
    assert "\n" not in str(error.value)


def test_words_behind_a_flag_are_its_values() -> None:
    args = ["points=7", "--shards", "a", "--model", "one=x/model", "two=y/model", "--seed", "3"]
    config = parse(EvaluateConfig, args, "ucn evaluate", "", layered=True)
    assert config.model == ("one=x/model", "two=y/model")
    assert (config.points, config.seed) == (7, 3)


@pytest.mark.parametrize(
    ("below", "above"), [("search_stride", "every"), ("every", "search_stride"), ("every", "every")]
)
def test_old_names_of_options_are_layered_like_new_ones(
    below: str, above: str, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(f"mining: {{{below}: 4, pool: group}}\n")
    args = ["--config", str(tmp_path / "a.yaml"), f"mining.{above}=2", "schedule.average=0.5"]
    config = parse(TrainConfig, args, "ucn train", "", layered=True)
    assert (config.mining.search_stride, config.mining.cross_pair_negatives) == (2, True)
    assert config.schedule.ema_decay == 0.5


@pytest.mark.parametrize("words", [["--mining.every", "2"], ["--mining.every=2"]])
def test_old_names_of_options_are_accepted_as_flags(words: list[str]) -> None:
    config = parse(TrainConfig, words, "ucn train", "", layered=True)
    assert config.mining.search_stride == 2


def test_a_flag_whose_values_have_changed_names_the_new_one() -> None:
    with pytest.raises(UserError, match=r"--mining.pool: is now --mining.cross_pair_negatives;"):
        parse(TrainConfig, ["--mining.pool", "group"], "ucn train", "", layered=True)


def test_words_are_told_from_the_values_of_flags() -> None:
    words = ["train", "steps=3", "--config", "a=b.yaml", "--detach", "data.x=[1,2]", "--id=x=y"]
    assert split_assignments(words) == (
        ["steps=3", "data.x=[1,2]"],
        ["train", "--config", "a=b.yaml", "--detach", "--id=x=y"],
    )


@pytest.mark.parametrize(
    "words",
    [
        ["a", "b", "c", "--points", "7"],
        ["points=7", "a", "b", "c"],
        ["a,b", "c", "points=7"],
        ["--shards", "a,b,c", "--points", "7"],
        ["--shards=a", "--points", "7", "--shards", "b", "c"],
        ["shards=a,b,c", "points=7"],
    ],
)
def test_lists_are_written_with_blanks_or_commas(words: list[str]) -> None:
    config = parse(EvaluateConfig, words, "ucn", "", layered=True, words_to="shards")
    assert (config.shards, config.points) == (("a", "b", "c"), 7)


def test_the_name_of_a_file_is_not_split(tmp_path: Path) -> None:
    folder = tmp_path / "a,b"
    folder.mkdir()
    for words in ([str(folder)], ["--shards", str(folder)], [f"data.shards={folder}"]):
        config = parse(TrainConfig, words, "ucn", "", layered=True, words_to="data.shards")
        assert config.data.shards == (str(folder),)


def test_lists_of_numbers_in_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("shards: x\nthresholds: 1,3\nseed: 4\n")
    config = parse(EvaluateConfig, ["--config", f"{tmp_path}/a.yaml"], "ucn", "", layered=True)
    assert (config.thresholds, config.shards) == ((1, 3), ("x",))


@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        (["--stepz", "3"], "--steps"),
        (["--shards", "x"], "--data.shards"),
        (["stepz=3"], "steps"),
        (["shards=x"], "data.shards"),
        (["mining.radios=x"], "radius"),
        (["network.name=smal"], "small"),
        (["--config", "smal"], "small"),
        (["--config", "configs/small.yml"], "--config small"),
    ],
)
def test_a_near_miss_is_told(
    words: list[str], suggested: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        parse(TrainConfig, words, "ucn train", "", layered=True)
    assert f"did you mean {suggested}?" in str(error.value)


def test_presets_go_by_name_from_any_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    config = parse(TrainConfig, ["--config", "small", "steps=9"], "ucn", "", layered=True)
    assert (config.steps, config.mining.search_stride) == (9, 2)
    # A file of this name is preferred.
    Path("small").write_text("seed: 8\n")
    config = parse(TrainConfig, ["--config", "small"], "ucn", "", layered=True)
    assert (config.seed, config.mining.search_stride) == (8, 1)


def test_words_win_over_files(tmp_path: Path) -> None:
    (tmp_path / "a=b.yaml").write_text("steps: 1\nseed: 2\n")
    (tmp_path / "c.yaml").write_text("seed: 3\npoints: 4\n")
    files = [tmp_path / "a=b.yaml", tmp_path / "c.yaml"]
    assert read_values(files, ["points=5"]) == {"steps": 1, "seed": 3, "points": 5}
