"""The loop without Ray: learning, exact resume, and a loss that is not finite."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from preprocessing.errors import UserError
from training.checkpoint import STATE, load_checkpoint
from training.config import LossConfig, MiningConfig, OptimiserConfig, TrainConfig
from training.data import PairDataset, load_item
from training.loop import Worker, WriteState, fit
from training.networks import build_network
from training.optimise import build_optimiser, learning_rate
from training.step import batch_loss
from training.validate import validation_indices, validation_pck


class Recorder:
    """Collects what a worker says; keeps the checkpoints in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics: dict[int, dict[str, float]] = {}

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self.metrics[step] = metrics

    def checkpoint(self, step: int, write: WriteState) -> None:
        write(self.folder / str(step))

    def column(self, name: str) -> list[float]:
        return [self.metrics[step][name] for step in sorted(self.metrics)]


def run(config: TrainConfig, data: PairDataset, folder: Path, resume: Path | None = None):
    recorder = Recorder(folder)
    network = fit(config, data, data, Worker(recorder.log, recorder.checkpoint), resume)
    return recorder, network


@pytest.mark.parametrize("mining", ["hard", "random"])
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_resume_gives_the_same_losses_and_weights(
    tmp_path: Path,
    tiny_config: TrainConfig,
    pairs: Callable[[int], PairDataset],
    mining: str,
    optimiser: str,
) -> None:
    config = tiny_config.model_copy(
        update={
            "loss": LossConfig(name="contrastive"),
            "mining": MiningConfig(name=mining),
            "optimiser": OptimiserConfig(name=optimiser, learning_rate=0.01),
        }
    )
    data = pairs(10)  # two batches of four in an epoch: the resume crosses epochs
    whole, network = run(config, data, tmp_path / "whole")
    rest, again = run(config, data, tmp_path / "rest", resume=tmp_path / "whole" / "2")
    assert sorted(rest.metrics) == [2, 3, 4, 5]
    for name in ("loss", "hit_ratio", "gradient_norm", "learning_rate"):
        assert whole.column(name)[2:] == rest.column(name)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_training_learns(
    tmp_path: Path, tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    config = tiny_config.model_copy(update={"steps": 40, "validate_every": 40})
    recorder, network = run(config, pairs(12), tmp_path)
    losses = recorder.column("loss")
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    untrained = build_network("small", config.network.options).eval()
    settings = {"bfloat16": False, "memory_mib": 16}
    before = validation_pck(untrained, pairs(4), config.data, **settings)
    after = validation_pck(network, pairs(4), config.data, **settings)
    assert after["pck/3"] > before["pck/3"] + 10
    assert recorder.metrics[39]["validation/pck/3"] > 0
    assert after["pck/3"] <= after["pck/5"] <= after["pck/10"] <= 100


def test_a_loss_that_is_not_finite_stops_and_names_the_pairs(
    tmp_path: Path, tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    config = tiny_config.model_copy(
        update={"optimiser": OptimiserConfig(learning_rate=1e30, clip_norm=1e30), "steps": 40}
    )
    with pytest.raises(UserError, match=r"learning_rate: .*step \d+, pairs drive-000\d") as error:
        run(config, pairs(4), tmp_path)
    assert "\n" not in str(error.value)


def test_checkpoint_holds_progress_and_damage_is_told(
    tmp_path: Path, tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    recorder, _ = run(tiny_config, pairs(4), tmp_path)
    network = build_network("small", tiny_config.network.options)
    optimiser = build_optimiser(network, tiny_config.optimiser)
    progress = load_checkpoint(tmp_path / "4", network, optimiser)
    assert (progress.step, progress.seed) == (4, 0)
    assert progress.metrics["loss"] == recorder.metrics[3]["loss"]
    assert "validation/pck/3" in progress.metrics  # measured at step 3
    state = tmp_path / "4" / STATE
    state.write_bytes(state.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"state\.pt: cannot be resumed from"):
        load_checkpoint(tmp_path / "4", network)
    with pytest.raises(UserError, match="cannot be resumed from"):
        load_checkpoint(tmp_path / "6", build_network("small", {"width": 32}))


def test_padding_never_gives_a_negative(
    tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    """With crops beyond the image, the loss is that of the image's own cells."""
    augmentation = tiny_config.augmentation.model_copy(
        update={"crop_width": 128, "crop_height": 96}
    )
    config = tiny_config.model_copy(
        update={"augmentation": augmentation, "mining": MiningConfig(radius=12)}
    )
    item = load_item(pairs(4), 1, 0, 1, config)
    assert item.valid is not None
    # 96 x 80 image pixels: cells at 1.5 + 4 j.
    assert item.valid[0].sum() == 96 * 80
    network = build_network("small", config.network.options).eval()
    outcome = batch_loss(network, network, [item], config)
    assert outcome.loss.isfinite()
    assert outcome.per_pair_B.shape == (1,)


def test_learning_rate_warms_up_and_anneals(tiny_config: TrainConfig) -> None:
    schedule = tiny_config.schedule.model_copy(update={"warmup_steps": 4})
    rates = [learning_rate(step, 20, 1.0, schedule) for step in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(a > b for a, b in pairwise(rates[4:]))
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert learning_rate(19, 20, 1.0, schedule.model_copy(update={"final_fraction": 0.1})) == (
        pytest.approx(0.1)
    )


def test_weight_decay_spares_norms_and_biases(tiny_config: TrainConfig) -> None:
    network = build_network("small", tiny_config.network.options)
    decayed, spared = build_optimiser(network, tiny_config.optimiser).param_groups
    assert decayed["weight_decay"] == tiny_config.optimiser.weight_decay
    assert spared["weight_decay"] == 0
    assert all(p.dim() == 4 for p in decayed["params"])
    assert len(decayed["params"]) + len(spared["params"]) == len(list(network.parameters()))


def test_validation_list_is_fixed_and_spread() -> None:
    assert validation_indices(3, 16) == [0, 1, 2]
    assert validation_indices(100, 4) == [12, 37, 62, 87]
