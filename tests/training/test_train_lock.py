"""Two trainings into one folder at once: one is refused before anything starts or changes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ucn.errors import UserError
from ucn.storage.lock import folder_lock
from ucn.training import job
from ucn.training.config import TrainConfig
from ucn.training.data.inputs import absolute_paths, input_digests, open_datasets
from ucn.training.job import train
from ucn.training.model import save_model
from ucn.training.networks import build_network
from ucn.training.run_state import MODEL, RunState, read_run_state, write_run_state


@pytest.fixture
def config(tiny_config: TrainConfig, write_shards: Callable[[str, int], Path]) -> TrainConfig:
    data = tiny_config.data.model_copy(update={"shards": (str(write_shards("train", 8)),)})
    return tiny_config.model_copy(update={"data": data, "overwrite": True})


def test_a_second_training_is_refused_and_overwrites_nothing(config: TrainConfig) -> None:
    other = RunState("another configuration", "RUNNING", "run")
    write_run_state(config.output, other)
    with (
        folder_lock(config.output),
        pytest.raises(UserError, match=r"run: another run writes here \(host .*, process"),
    ):
        train(config)
    assert read_run_state(config.output) == other
    assert [path.name for path in Path(config.output).iterdir()] == ["training.json"]


def test_a_finished_training_is_returned_without_the_folder(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = absolute_paths(config)
    fingerprint = whole.fingerprint(*input_digests(whole, *open_datasets(whole)))
    write_run_state(whole.output, RunState(fingerprint, "FINISHED", None))
    network = build_network(config.network.name, config.network.options)
    save_model(f"{whole.output}/{MODEL}", network, config.network, scores={"loss": 0.5})
    monkeypatch.setattr(job, "folder_lock", None)
    assert train(config).metrics == {"loss": 0.5}
