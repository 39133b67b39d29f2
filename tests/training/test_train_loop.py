"""The loop without Ray: learning, exact resume, and a loss that is not finite."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ucn.errors import UserError
from ucn.matching import search
from ucn.matching.features import sample_features
from ucn.training.config import (
    LossConfig,
    MiningConfig,
    NetworkConfig,
    OptimiserConfig,
    ScheduleConfig,
    TrainConfig,
)
from ucn.training.data.collate import collate
from ucn.training.data.pairs import Item, PairDataset, load_item
from ucn.training.data.sampler import Sampler
from ucn.training.loop.checkpoint import STATE, load_checkpoint
from ucn.training.loop.loop import Worker, WriteState, best_weights, fit
from ucn.training.loop.optimise import build_optimiser, learning_rate
from ucn.training.loop.state import initial_state
from ucn.training.loop.step import Stepper, read
from ucn.training.loop.validate import validate, validation_indices
from ucn.training.losses.pair_losses import PairLosses, _sample, pair_losses
from ucn.training.networks import build_network
from ucn.training.networks.base import DenseNetwork
from ucn.training.registry import LOSSES

CPU = torch.device("cpu")


def losses_of(
    network: DenseNetwork, items: Sequence[Item], config: TrainConfig, step: int = 0
) -> PairLosses:
    batch = collate(items).to(CPU)
    return pair_losses(network(batch.images_BCHW.float() / 255), network, batch, config, step)


class Recorder:
    """Collects what a worker says; keeps the checkpoints in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics: dict[int, dict[str, float]] = {}
        self.told_again: dict[int, dict[str, float]] = {}

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self.metrics[step] = metrics

    def checkpoint(self, step: int, write: WriteState) -> None:
        write(self.folder / str(step))

    def column(self, name: str) -> list[float]:
        return [self.metrics[step][name] for step in sorted(self.metrics)]


def run(config: TrainConfig, data: PairDataset, folder: Path, resume: Path | None = None):
    recorder = Recorder(folder)
    sampler = Sampler((len(data),), config.batch_size, config.seed)
    told_again = recorder.told_again.__setitem__
    worker = Worker(recorder.log, recorder.checkpoint, told_again)
    return recorder, fit(config, data, data, worker, sampler, resume)


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
            "schedule": ScheduleConfig(warmup_steps=1, ema_decay=0.9 if mining == "hard" else 0.0),
        }
    )
    data = pairs(10)  # two and a half batches in an epoch: the resume crosses epochs
    whole, state = run(config, data, tmp_path / "whole")
    rest, again = run(config, data, tmp_path / "rest", resume=tmp_path / "whole" / "2")
    assert sorted(rest.metrics) == [2, 3, 4, 5]
    assert rest.told_again == {step: whole.metrics[step] for step in (0, 1)}
    for name in ("loss", "hit_ratio", "gradient_norm", "learning_rate"):
        assert whole.column(name)[2:] == rest.column(name)
    for name, weight in state.network.state_dict().items():
        assert torch.equal(weight, again.network.state_dict()[name]), name
    assert state.best.step == again.best.step
    for name, weight in best_weights(state)[0].items():
        assert torch.equal(weight, best_weights(again)[0][name]), name


def test_training_learns(
    tmp_path: Path, tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    config = tiny_config.model_copy(update={"steps": 60, "validate_every": 60})
    recorder, state = run(config, pairs(12), tmp_path)
    losses = recorder.column("loss")
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    untrained = build_network("small", config.network.options).eval()
    before = validate(untrained, pairs(4), config)
    after = validate(state.network, pairs(4), config)
    assert after["pck/3"] > before["pck/3"] + 10
    assert recorder.metrics[59]["validation/pck/3"] > 0
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
    snapshot = load_checkpoint(tmp_path / "4")
    assert snapshot["step"] == 4
    assert snapshot["metrics"]["loss"] == recorder.metrics[3]["loss"]
    assert "validation/pck/3" in snapshot["metrics"]  # measured at step 3
    other = tiny_config.model_copy(update={"network": NetworkConfig(options={"width": 32})})
    with pytest.raises(UserError, match="cannot be resumed from"):
        run(other, pairs(4), tmp_path / "other", resume=tmp_path / "4")
    state = tmp_path / "4" / STATE
    state.write_bytes(state.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"state\.pt: cannot be resumed from"):
        load_checkpoint(tmp_path / "4")
    with pytest.raises(UserError, match=r"state\.pt: cannot be resumed from"):
        load_checkpoint(tmp_path / "5")


def test_the_weights_that_validated_best_are_published(
    tmp_path: Path, tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    config = tiny_config.model_copy(
        update={"steps": 30, "validate_every": 3, "optimiser": OptimiserConfig(learning_rate=0.05)}
    )
    recorder, state = run(config, pairs(12), tmp_path)
    scores = {
        step + 1: metrics["validation/pck/5"]
        for step, metrics in recorder.metrics.items()
        if "validation/pck/5" in metrics
    }
    assert len(scores) == 10
    weights, metrics = best_weights(state)
    assert metrics["validation/pck/5"] == max(scores.values())
    assert scores[int(metrics["best_step"])] == max(scores.values())
    network = build_network("small", config.network.options).eval()
    network.load_state_dict(weights)
    assert validate(network, pairs(12), config)["pck/5"] == max(scores.values())


def test_averaged_weights_are_validated_and_published(
    tmp_path: Path, tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    config = tiny_config.model_copy(update={"schedule": ScheduleConfig(ema_decay=0.9)})
    recorder, state = run(config, pairs(4), tmp_path)
    network = build_network("small", config.network.options).eval()
    network.load_state_dict(state.ema.weights)
    assert validate(network, pairs(4), config)["pck/5"] == recorder.metrics[5]["validation/pck/5"]
    assert not torch.equal(
        state.ema.weights["head.weight"], state.network.state_dict()["head.weight"]
    )


def test_groups_add_up_to_the_gradient_of_the_batch(
    tmp_path: Path, tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    """In float64, against the mean of the losses of single groups, each on its own."""
    torch.manual_seed(0)
    state = initial_state(tiny_config, torch.device("cpu"))
    items = [load_item(pairs(4)[index], index, 0, 1, tiny_config) for index in range(4)]
    alone = initial_state(tiny_config, torch.device("cpu"))
    alone.network.train()
    losses = [
        losses_of(alone.network, group, tiny_config).loss_P for group in (items[:2], items[2:])
    ]
    torch.autograd.backward(torch.cat(losses).mean())
    gradients = [parameter.grad.clone() for parameter in alone.network.parameters()]
    norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    (metrics,) = read([Stepper(tiny_config, state, state.network).step(0, collate(items).to(CPU))])
    assert metrics["loss"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-6)
    assert metrics["gradient_norm"] == pytest.approx(float(norm), rel=1e-5)


def test_one_pass_of_all_groups_is_the_step_of_passes_of_each(
    tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    config = tiny_config.model_copy(update={"optimiser": OptimiserConfig(name="sgd")})
    items = [load_item(pairs(4)[index], index, 0, 1, config) for index in range(4)]
    states = [initial_state(config, CPU) for _ in range(2)]
    outcomes = []
    for state, images_in_pass in zip(states, (4, 8), strict=True):
        stepper = Stepper(config, state, state.network)
        stepper._images_in_pass = images_in_pass
        outcomes.append(stepper.step(0, collate(items).to(CPU)).values)
    torch.testing.assert_close(*outcomes, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        *(state.network.state_dict() for state in states), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("size", [(7, 9), (1, 5), (4, 1), (1, 1)])
def test_features_are_sampled_as_in_matching(size: tuple[int, int]) -> None:
    """Also beyond the border; with a gradient in the layout of the features."""
    network = build_network("small", {"dimension": 6, "width": 4})
    generator = torch.Generator().manual_seed(sum(size))
    maps = torch.randn(3, 6, *size, generator=generator).double()
    maps = maps.contiguous(memory_format=torch.channels_last).requires_grad_()
    extent = 2 * torch.tensor(size[::-1]) + 4
    points = torch.rand(3, 40, 2, generator=generator).double() * extent - 2
    found = _sample(maps, points, network)
    expected = sample_features(maps, points, network.stride, network.offset)
    torch.testing.assert_close(found, expected)
    slope = torch.randn(found.shape, generator=generator).double()
    gradients = [torch.autograd.grad(value, maps, slope)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients)
    assert gradients[0].is_contiguous(memory_format=torch.channels_last)


class Calls(TorchDispatchMode):
    """Counts the operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if not function.is_view:
            self.count[function.overloadpacket.__name__] += 1
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("loss", LOSSES.builtin)
def test_number_of_operators_does_not_grow_with_the_pairs(
    loss: str,
    tiny_config: TrainConfig,
    pairs: Callable[[int], PairDataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond those of the network's own passes; without its views, which compute nothing. All
    groups pass together, as on a GPU.
    """
    monkeypatch.setattr(search, "CPU_TILE", 1 << 40)
    values = {
        "loss": LossConfig(name=loss),
        "mining": MiningConfig(radius=6, memory_mib=4096),
        "schedule": ScheduleConfig(warmup_steps=1, ema_decay=0.9),
    }
    numbers = []
    for num_pairs in (2, 4, 32):
        config = tiny_config.model_copy(
            update=values | {"batch_size": num_pairs, "group_size": 2 if num_pairs > 2 else 1}
        )
        state = initial_state(config, CPU)
        stepper = Stepper(config, state, state.network)
        stepper._images_in_pass = 2 * num_pairs
        items = [load_item(pairs(32)[index], index, 0, 1, config) for index in range(num_pairs)]
        stepper.step(0, collate(items).to(CPU))
        batch = collate(items).to(CPU)
        with Calls() as whole:
            stepper.step(1, batch)
        images_BCHW = torch.rand(2 * num_pairs, 1, 64, 64)
        images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
        state.network.zero_grad()
        with Calls() as bare:
            features_BDHW = state.network(images_BCHW)
            features_BDHW.backward(torch.ones_like(features_BDHW))
        numbers.append(whole.count.total() - bare.count.total())
        forbidden = {"nonzero", "index", "index_put", "_local_scalar_dense", "masked_select"}
        assert not forbidden & whole.count.keys()
    assert numbers[0] == numbers[1] == numbers[2] < 250, numbers


def test_metrics_of_every_step_are_reported(
    tmp_path: Path, tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    """They are read together, also where nothing else asks for them."""
    config = tiny_config.model_copy(
        update={"steps": 21, "checkpoint_every": 10, "validate_every": 50}
    )
    recorder, state = run(config, pairs(4), tmp_path)
    assert sorted(recorder.metrics) == list(range(21))
    assert sorted(state.recent) == list(range(1, 21))
    assert [step for step in range(21) if "validation/pck/5" in recorder.metrics[step]] == [20]
    assert load_checkpoint(tmp_path / "10")["step"] == 10
    assert sorted(load_checkpoint(tmp_path / "10")["recent"]) == list(range(10))


def test_negatives_of_the_group_include_the_other_pairs(
    tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    """With a copy of the pair in the group, the copy's own cell is a perfect wrong match."""
    config = tiny_config.model_copy(
        update={
            "loss": LossConfig(name="contrastive"),
            "mining": MiningConfig(radius=6, cross_pair_negatives=True),
        }
    )
    item = load_item(pairs(4)[1], 1, 0, 1, config)
    network = build_network("small", config.network.options).eval()
    twice = losses_of(network, [item, item], config)
    alone = config.model_copy(update={"mining": MiningConfig(radius=6)})
    once = losses_of(network, [item, item], alone)
    assert (twice.loss_P > once.loss_P).all()
    assert twice.hit_ratio <= once.hit_ratio


def test_negatives_among_every_other_cell(
    tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    """InfoNCE of one pair, written out over the cells that are searched, in float64."""
    mining = MiningConfig(radius=6, search_stride=2)
    config = tiny_config.model_copy(
        update={"loss": LossConfig(name="infonce"), "mining": mining, "group_size": 1}
    )
    network = build_network("small", config.network.options).eval()
    for step in range(4):
        item = load_item(pairs(4)[step], step, 0, 1, config)
        with torch.no_grad():
            maps = [network(image[None].float() / 255)[0] for image in item.images]
            outcome = losses_of(network, [item], config, step)
        offset = network.offset + 2 * (step % 2)
        expected = _infonce(item, maps, offset, 2 * network.stride, config)
        assert float(outcome.loss_P) == pytest.approx(expected, rel=1e-4)


def _infonce(
    item: Item, maps: Sequence[Tensor], offset: float, stride: float, config: TrainConfig
) -> float:
    """Mean over both directions; cells at ``offset + stride * j`` pixels, read off a 2 px map."""
    points = [item.matches_N4[:, :2], item.matches_N4[:, 2:]]
    at = [sample_features(maps[side], points[side], 2, 0.5).double() for side in (0, 1)]
    losses = []
    for here, there in ((0, 1), (1, 0)):
        start = round((offset - 0.5) / 2)
        cells_DHW = maps[there][:, start::2, start::2].double()
        y, x = torch.meshgrid(*(torch.arange(n) for n in cells_DHW.shape[1:]), indexing="ij")
        places_M2 = torch.stack([x, y], dim=-1).view(-1, 2) * stride + offset
        far_NM = torch.cdist(points[there].double(), places_M2.double()) > config.mining.radius
        scores_NM = at[here] @ cells_DHW.flatten(1) / config.loss.temperature
        right_N1 = (at[0] * at[1]).sum(dim=1, keepdim=True) / config.loss.temperature
        every = torch.cat([right_N1, scores_NM.masked_fill(~far_NM, -torch.inf)], dim=1)
        losses.append(every.logsumexp(dim=1) - right_N1[:, 0])
    return float(torch.cat(losses).mean())


def test_padding_never_gives_a_negative(
    tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    """With crops beyond the image, the loss is that of the image's own cells."""
    augmentation = tiny_config.augmentation.model_copy(
        update={"crop_width": 128, "crop_height": 96}
    )
    config = tiny_config.model_copy(
        update={
            "augmentation": augmentation,
            "mining": MiningConfig(radius=12),
            "group_size": 1,
        }
    )
    item = load_item(pairs(4)[1], 1, 0, 1, config)
    assert item.valid is not None
    assert item.valid[0].sum() == 96 * 80
    network = build_network("small", config.network.options).eval()
    losses = losses_of(network, [item], config)
    assert losses.loss_P.shape == (1,)
    assert losses.loss_P.isfinite()


def test_learning_rate_warms_up_and_anneals(tiny_config: TrainConfig) -> None:
    schedule = tiny_config.schedule.model_copy(update={"warmup_steps": 4})
    rates = [learning_rate(step, 20, 1.0, schedule) for step in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(a > b for a, b in pairwise(rates[4:]))
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert learning_rate(19, 20, 1.0, schedule.model_copy(update={"final_fraction": 0.1})) == (
        pytest.approx(0.1)
    )


@pytest.mark.parametrize("steps", [1, 2, 3, 20, 21])
def test_a_run_no_longer_than_the_warm_up_ends_at_the_peak(steps: int) -> None:
    rates = [learning_rate(step, steps, 3.0, ScheduleConfig()) for step in range(steps)]
    assert max(rates) == pytest.approx(3.0)
    assert all(a < b for a, b in pairwise(rates))


def test_exponential_decay_is_that_of_an_equal_factor_each_epoch() -> None:
    """Open-UCN's schedule: 0.99 an epoch over 100 epochs; here of 20 steps each."""
    schedule = ScheduleConfig(warmup_steps=0, decay="exponential", final_fraction=0.99**100)
    for epoch in range(101):
        rate = learning_rate(20 * epoch, 2001, 0.1, schedule)
        assert rate == pytest.approx(0.1 * 0.99**epoch)


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
