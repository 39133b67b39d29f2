import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ucn.cluster.session import ray_session
from ucn.errors import UserError
from ucn.evaluation import pool
from ucn.evaluation.config import EvaluateConfig, PoseConfig
from ucn.evaluation.job import choose_indices, evaluate, set_names
from ucn.evaluation.state import EvaluationState, fingerprints, match_identity, read_inputs
from ucn.evaluation.worker import PairWorker
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.read import ShardDataset
from ucn.storage.lock import folder_lock
from ucn.training.config import NetworkConfig, TrackingConfig
from ucn.training.model import save_model
from ucn.training.networks import build_network


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = NetworkConfig(name="small", options={"dimension": 16, "width": 16})
    folder = tmp_path_factory.mktemp("models") / "model"
    save_model(folder, build_network(config.name, config.options), config)
    return folder


@pytest.fixture
def threads_kept() -> Iterator[None]:
    """A worker has its process for itself and limits its threads; the tests' process goes on."""
    torch_threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(torch_threads)
    cv2.setNumThreads(cv2_threads)


@pytest.mark.usefixtures("threads_kept")
def test_worker_asks_every_method_for_the_same_points(model_folder: Path, shift_set: Path) -> None:
    config = EvaluateConfig(shards=(str(shift_set),), model=(str(model_folder),), points=60)
    worker = PairWorker(config, [shift_set])
    found = worker.score(0, 2, worker.match(0, 2, list(worker.methods)))
    assert found.key == "shift2-6-4"
    assert found.sequence == "drive-0"
    assert {len(one.errors_N) for one in found.methods.values()} == {60}
    assert all(one.poses == {} for one in found.methods.values())


def test_bad_input_is_one_line(tmp_path: Path, shift_set: Path) -> None:
    off = TrackingConfig(enabled=False)
    with pytest.raises(UserError, match="no model"):
        evaluate(EvaluateConfig(shards=(str(shift_set),), model=(str(tmp_path),), tracking=off))
    with pytest.raises(UserError, match="no such folder"):
        evaluate(EvaluateConfig(shards=(str(tmp_path / "none"),), tracking=off))


def test_a_second_evaluation_into_one_folder_is_refused(shift_set: Path, tmp_path: Path) -> None:
    config = EvaluateConfig(
        shards=(str(shift_set),),
        baselines=("daisy",),
        output=tmp_path / "report",
        tracking=TrackingConfig(enabled=False),
    )
    with (
        folder_lock(EvaluationState(config.output, ["f"]).partial),
        pytest.raises(UserError, match=r"report\.unfinished: another run writes here \(host "),
    ):
        evaluate(config)
    assert list(tmp_path.iterdir()) == []


def test_pairs_are_spread_evenly(shift_set: Path) -> None:
    dataset = ShardDataset(shift_set)
    assert choose_indices(dataset, 0) == [0, 1, 2, 3]
    assert choose_indices(dataset, 2) == [0, 3]
    assert choose_indices(dataset, 99) == [0, 1, 2, 3]


def test_sets_are_named_after_their_folders() -> None:
    assert set_names(["runs/a/val", "b/val/", "c/odd@name", "b/val"]) == [
        "val",
        "val-2",
        "odd-name",
        "val-3",
    ]


@pytest.mark.ray
def test_any_number_of_workers_gives_one_result(
    model_folder: Path, shift_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(workers: int) -> EvaluateConfig:
        return EvaluateConfig(
            shards=(str(shift_set), str(shift_set)),
            model=(str(model_folder),),
            baselines=("daisy",),
            points=80,
            pictures=1,
            pose=PoseConfig(seeds=(0,)),
            workers=workers,
            output=tmp_path / f"report-{workers}",
            json_path=tmp_path / f"{workers}.json",
            tracking=TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db"),
        )

    with ray_session(2):
        one, two = evaluate(config(1)), evaluate(config(2))
        # A third worker waits for a node that never comes.
        monkeypatch.setattr(pool, "pool_size", lambda *arguments, **options: (3, 0))
        three = evaluate(config(3))
    assert one.metrics == two.metrics == three.metrics
    assert one.metrics == json.loads((tmp_path / "1.json").read_text())
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    report = (tmp_path / "report-2" / "report.html").stat().st_mtime_ns
    again = evaluate(config(2))
    assert (again.metrics, again.run_id) == (two.metrics, two.run_id)
    assert (tmp_path / "report-2" / "report.html").stat().st_mtime_ns == report
    assert one.metrics["baseline/daisy/pck/10"] > 90
    assert one.metrics["shifts-2/pck/10"] == one.metrics["pck/10"]
    assert "shifts-2/baseline/daisy/pose/auc_5" in one.metrics
    output = tmp_path / "report-2"
    names = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    assert {"report.html", "report.md", "metrics.json", "sequences.csv"} <= names
    assert {"shifts/pck.png", "shifts/matches/0-ucn.jpg", "shifts-2/matches/0-daisy.jpg"} <= names
    _check_record(one.run_id, tmp_path, one.metrics, ShardDataset(shift_set).digest)


def _check_record(run_id: str | None, folder: Path, metrics: dict[str, float], digest: str) -> None:
    from mlflow import MlflowClient

    assert run_id is not None
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    parent = client.get_run(run_id)
    assert (parent.info.run_name, parent.info.status) == ("evaluate · shifts, shifts-2", "FINISHED")
    assert parent.data.metrics["pck/10"] == metrics["pck/10"]
    assert not [name for name in parent.data.metrics if name.startswith(("baseline", "shifts-2"))]
    assert len(parent.data.tags["model.sha256"]) == 64
    assert all(digest in entry.dataset.profile for entry in parent.inputs.dataset_inputs)
    artifacts = {artifact.path for artifact in client.list_artifacts(run_id)}
    assert {"report.html", "results.json", "shifts"} <= artifacts
    assert artifacts.isdisjoint({"tracking", "matches"})
    table = json.loads(Path(client.download_artifacts(run_id, "results.json")).read_text())
    assert table["columns"][:2] == ["set", "method"]
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'"
    )
    by_name = {run.info.run_name: client.get_run(run.info.run_id) for run in children}
    assert set(by_name) == {
        f"{name} · {title}" for name in ("shifts", "shifts-2") for title in ("UCN", "dense DAISY")
    }
    names = {name for name in metrics if not name.startswith(("baseline", "shifts-2"))}
    rows = {
        (row[0], row[1]): dict(zip(table["columns"], row, strict=True)) for row in table["data"]
    }
    for run in by_name.values():
        place, method = run.data.tags["set"], run.data.tags["method"]
        prefix = "shifts-2/" if place == "shifts-2" else ""
        prefix += "baseline/daisy/" if method == "daisy" else ""
        expected = {name: metrics[f"{prefix}{name}"] for name in names}
        curve = client.get_metric_history(run.info.run_id, "pck_curve")
        assert [point.step for point in curve] == list(range(1, 51))
        assert curve[9].value == expected["pck/10"]
        assert {n: v for n, v in run.data.metrics.items() if n != "pck_curve"} == expected
        assert rows[place, method] == {"set": place, "method": method} | expected
    (model,) = client.search_logged_models([parent.info.experiment_id])
    scored = {score.run_id for score in model.metrics}
    assert {run.info.run_id for name, run in by_name.items() if "UCN" in name} <= scored


@pytest.mark.ray
def test_models_and_patches_in_one_table(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "liberty"
    folder.mkdir()
    sheet = np.random.default_rng(3).integers(0, 256, (1024, 1024), np.uint8)
    assert cv2.imwrite(str(folder / "patches0000.bmp"), sheet)
    (folder / "info.txt").write_text("".join(f"{n // 2} 0\n" for n in range(256)))
    rows = [(n, n // 2, 0, m, m // 2, 0) for n, m in ((0, 1), (2, 3), (4, 9), (6, 11))]
    text = "\n".join(" ".join(map(str, row)) for row in rows)
    (folder / "m50_100000_100000_0.txt").write_text(text)
    config = EvaluateConfig(
        model=(f"one={model_folder}", f"two={model_folder}"),
        baselines=("sift", "dis"),
        patches=(folder,),
        output=tmp_path / "report",
        tracking=TrackingConfig(enabled=False),
    )
    with ray_session(1):
        found = evaluate(config)
    names = ("patches/liberty/fpr95", "model/two/patches/liberty/fpr95")
    assert found.metrics[names[0]] == found.metrics[names[1]]
    assert set(found.metrics) == {*names, "baseline/sift/patches/liberty/fpr95"}
    assert found.markdown.count("| one |") == found.markdown.count("| dense SIFT |") == 1
    assert "Patch verification" in found.report_path.read_text()


def counts(text: str) -> dict[str, tuple[int, int]]:
    """Pairs matched and reused, by method."""
    lines = re.findall(r"^(\S+): matched (\d+) pairs, reused (\d+)$", text, re.MULTILINE)
    return {name: (int(matched), int(reused)) for name, matched, reused in lines}


@pytest.mark.ray
@pytest.mark.usefixtures("threads_kept")
def test_evaluation_goes_on_where_it_was_killed(
    shift_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = EvaluateConfig(
        shards=(str(shift_set),),
        baselines=("daisy",),
        points=50,
        pictures=0,
        output=tmp_path / "report",
        tracking=TrackingConfig(enabled=False),
    )
    inputs = read_inputs(config, ["shifts"], [ShardDataset(shift_set)], {})
    state = EvaluationState(config.output, fingerprints(config, inputs))
    kept = PairWorker(config, [shift_set]).match(0, 1, ["daisy"])["daisy"]
    kept["point"].matches_N4[:, 2] = 1000  # told apart from what a rerun would find
    state.table("shifts", "daisy", match_identity(config, inputs, 0, "daisy")).keep(1, kept)
    with ray_session(1):
        found = evaluate(config)
    assert counts(capsys.readouterr().err) == {"daisy": (3, 1)}
    assert found.metrics["baseline/daisy/pck/10"] < 76
    assert found.metrics["baseline/daisy/error_px_mean"] > 200
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.ray
def test_matches_are_reused_by_other_scores_methods_and_pairs(
    shift_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def config(**options: object) -> EvaluateConfig:
        return EvaluateConfig.model_validate(
            {
                "shards": (str(shift_set),),
                "baselines": ("daisy",),
                "points": 50,
                "pose": {"seeds": (0,)},
                "output": tmp_path / "report",
                "tracking": {"enabled": False},
            }
            | options
        )

    dataset = ShardDataset(shift_set)
    pose = {"estimators": ("poselib",), "seeds": (4,)}
    flow = (tmp_path / "flow") / f"{dataset.keys[0]}.npz"
    flow.parent.mkdir()
    np.savez(flow, matches=dataset[0].matches_N4)
    with ray_session(1):
        evaluate(config(pairs=2, pictures=0))
        assert counts(capsys.readouterr().err) == {"daisy": (2, 0)}
        evaluate(config(pictures=1))
        assert counts(capsys.readouterr().err) == {"daisy": (2, 2)}
        changed = config(thresholds=(2,), pose=pose, matching={"reciprocity_px": 1}, pictures=2)
        again = evaluate(changed)
        assert counts(capsys.readouterr().err) == {"daisy": (0, 4)}
        found = evaluate(config(baselines=("daisy", "dis"), external=(f"raft={flow.parent}",)))
        assert counts(capsys.readouterr().err) == {"daisy": (0, 4), "dis": (4, 0), "raft": (4, 0)}
        # A new folder gives the same: nothing depends on what was stored.
        fresh = evaluate(changed.model_copy(update={"output": tmp_path / "fresh"}))
    assert again.metrics == fresh.metrics
    assert (tmp_path / "report" / "shifts" / "matches" / "1-daisy.jpg").exists()
    stored = pq.read_table(tmp_path / "report" / "matches" / "shifts" / "daisy.parquet")
    assert stored.num_rows == 4 * 50
    # One of four pairs has true matches, the others have none.
    assert found.metrics["external/raft/pck/1"] == 25
    assert "external/raft/error_px_mean" not in found.metrics
    assert "raft (no file for 3 of 4 pairs)" in found.markdown


def test_set_without_correspondences_is_refused(
    tmp_path: Path, write_set: Callable[[Path, list[Sample]], Path], shifted: Callable[..., Sample]
) -> None:
    sample = shifted((1, 0))
    empty = Sample("k", sample.image0, sample.image1, sample.matches_N4[:0], sample.metadata)
    with pytest.raises(UserError, match="no correspondences"):
        choose_indices(ShardDataset(write_set(tmp_path, [empty])), 0)


@pytest.mark.ray
def test_damaged_shard_is_named_in_one_line(
    tmp_path: Path, write_set: Callable[[Path, list[Sample]], Path], shifted: Callable[..., Sample]
) -> None:
    tar = write_set(tmp_path / "cut", [shifted((1, 0))]) / "val-000000.tar"
    tar.write_bytes(tar.read_bytes()[:600])
    config = EvaluateConfig(
        shards=(str(tar.parent),),
        baselines=("daisy",),
        output=tmp_path / "report",
        tracking=TrackingConfig(enabled=False),
    )
    with ray_session(1), pytest.raises(UserError, match=r"val-000000\.tar") as error:
        evaluate(config)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "report").exists()
