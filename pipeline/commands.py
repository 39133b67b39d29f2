"""One function a subcommand: parse arguments, run, print the result."""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field

from ucn.config import FrozenConfig
from ucn.errors import UserError, counted
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.export.config import MatchOptions
from ucn.evaluation.methods.baselines.registry import BASELINES
from ucn.notice import notice
from ucn.pipeline.arguments import parse, read_layers
from ucn.pipeline.config import RunConfig
from ucn.pipeline.help import columns
from ucn.pipeline.presets import preset_names, preset_summary, preset_usage
from ucn.preprocessing.sources.registry import SOURCES
from ucn.registry import import_own
from ucn.storage.addresses import redact
from ucn.training.config import TrainConfig

# Metrics of a step that say nothing about the finished training.
_NO_RESULTS = ("learning_rate", "gradient_norm", "step_seconds", "data_wait_seconds", "workers")


class InspectArguments(FrozenConfig):
    """Arguments of `ucn inspect`."""

    uri: tyro.conf.Positional[str]
    """Folder or URI of shards."""
    save: Path | None = None
    """Picture to write, .png or .jpg."""
    sample: str | None = None
    """Key of one pair to draw; otherwise a contact sheet of pairs."""
    colour: Literal["displacement", "depth", "keypoint"] | None = None
    """What colours show; default: labelled keypoints if any, else displacement."""


class VerifyArguments(FrozenConfig):
    """Arguments of `ucn verify`."""

    uri: tyro.conf.Positional[str]
    """Folder or URI of shards."""
    workers: int | None = Field(0, ge=0)
    """Shards checked in parallel on Ray; 0 checks them without Ray."""


class MatchArguments(MatchOptions):
    """Arguments of `ucn match`."""

    images: tyro.conf.Positional[
        Annotated[tuple[str, ...], tyro.conf.arg(metavar="IMAGE0 IMAGE1")]
    ] = ()
    """Paths of two photos."""
    model: str = "shipped"
    """Folder or URI of a trained model; `shipped` comes with ucn."""
    imports: tuple[str, ...] = ()
    """Modules of your own to import first, such as that of the model's network."""
    pairs: Path | None = None
    """Match all pairs of this file, two names a line, as hloc's pairs.txt."""
    root: Path = Path()
    """Folder to which the paths of photos are relative."""
    save: Path | None = None
    """Picture of the matches to write, .png or .jpg."""
    out: Path | None = None
    """Matches to write: .npz, .h5 (hloc) or .db (COLMAP; an existing one is extended)."""
    max_side: int = Field(1600, ge=0)
    """Longest side for matching, pixels; 0 never resizes. Matches refer to the originals."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the network; `auto` is the GPU if there is a usable one."""


class SyncArguments(FrozenConfig):
    """Arguments of `ucn sync`."""

    output: tyro.conf.Positional[str]
    """Output folder or URI of `ucn train`, `ucn evaluate` or `ucn run`."""
    uri: str | None = None
    """Tracking URI; by default the one that each run was started with."""


class DemoArguments(FrozenConfig):
    """Arguments of `ucn demo`."""

    out: str = "runs/demo"
    """Folder of all outputs."""


def preprocess(args: Sequence[str]) -> int:
    """`ucn preprocess SOURCE ...`"""
    if not args or args[0] in ("-h", "--help"):
        sys.stdout.write(
            "usage: ucn preprocess SOURCE --out DIR [options]\n\n"
            f"Sources:\n{columns(SOURCES.summaries())}\n\n"
            "ucn preprocess SOURCE --help lists the options of a source. A source of your own is\n"
            "package.module:Class.\n"
        )
        return 0 if args else 2
    source, *rest = args
    model = SOURCES.load(source)
    config = parse(model, rest, f"ucn preprocess {source}", model.__doc__ or "", layered=True)
    from ucn.preprocessing.job import preprocess

    manifest = preprocess(config)
    _print_json({"out": config.out} | manifest.totals.model_dump())
    return 0


def inspect(args: Sequence[str]) -> int:
    """`ucn inspect URI [--save PICTURE]`"""
    arguments = parse(
        InspectArguments, args, "ucn inspect", "Print statistics of shards, and draw the matches."
    )
    from ucn.images.draw import write_picture
    from ucn.preprocessing.shards import inspect
    from ucn.preprocessing.shards.read import ShardDataset
    from ucn.preprocessing.shards.statistics import dataset_distributions

    dataset = ShardDataset(arguments.uri)
    if arguments.sample is None:
        distributions = dataset_distributions(dataset)
        summary = inspect.summarize_dataset(dataset.manifest, distributions)
        if arguments.save is not None:
            picture = inspect.draw_sheet(dataset, distributions, arguments.colour)
    else:
        sample = dataset[dataset.index_of(arguments.sample)]
        summary = inspect.summarize_sample(sample)
        if arguments.save is not None:
            picture = inspect.draw_sample(sample, arguments.colour)
    if arguments.save is not None:
        write_picture(arguments.save, picture)
        summary += f"\nwrote {arguments.save}"
    _print(summary)
    return 0


def verify(args: Sequence[str]) -> int:
    """`ucn verify URI`"""
    arguments = parse(
        VerifyArguments, args, "ucn verify", "Check shards: checksums, counts, every sample."
    )
    from ucn.preprocessing.shards.format import read_manifest
    from ucn.preprocessing.shards.verify import verify_dataset
    from ucn.storage.stores import open_store

    store = open_store(arguments.uri)
    faults = verify_dataset(arguments.uri, arguments.workers)
    for fault in faults:
        _print(fault)
    if faults:
        sys.stderr.write(
            f"ucn: {store.uri}: {counted(len(faults), 'fault')}; delete the files named above and "
            "run `ucn preprocess` again\n"
        )
        return 1
    totals = read_manifest(store).totals
    _print(
        f"{store.uri}: sound, {counted(totals.samples, 'sample')}, "
        f"{counted(totals.matches, 'match')}"
    )
    return 0


def train(args: Sequence[str]) -> int:
    """`ucn train SHARDS ... --config FILE ...`"""
    config = parse(
        TrainConfig,
        args,
        "ucn train",
        "Train a network on shards, given as SHARDS ... or --shards SHARDS ...",
        layered=True,
        words_to="data.shards",
    )
    with notice("loading PyTorch and Ray Train"):
        from ucn.training.job import train

    result = train(config)
    scores = {name: value for name, value in result.metrics.items() if name not in _NO_RESULTS}
    _print_json({"model": result.model, "run_id": result.run_id, "steps": config.steps} | scores)
    return 0


def evaluate(args: Sequence[str]) -> int:
    """`ucn evaluate SHARDS ... --model DIR ...`"""
    config = parse(
        EvaluateConfig,
        args,
        "ucn evaluate",
        "Measure PCK and pose accuracy of models and baselines on shards, given as SHARDS ... or "
        "--shards SHARDS ... `ucn baselines` says what each baseline is.",
        layered=True,
        words_to="shards",
    )
    with notice("loading PyTorch"):
        from ucn.evaluation.job import evaluate

    _print_evaluation(evaluate(config))
    return 0


def match(args: Sequence[str]) -> int:
    """`ucn match IMAGE0 IMAGE1 --model DIR ...`"""
    arguments = parse(MatchArguments, args, "ucn match", "Match photos.")
    if len(arguments.images) != (2 if arguments.pairs is None else 0):
        raise UserError(
            f"IMAGE0 IMAGE1: got {counted(len(arguments.images), 'photo')}; give two, or only "
            "--pairs FILE"
        )
    with notice("loading PyTorch"):
        from ucn.pipeline.match import match_photos, read_pairs

    for module in arguments.imports:
        import_own(module)
    if arguments.pairs is None:
        pairs = [(arguments.images[0], arguments.images[1])]
    else:
        pairs = read_pairs(arguments.pairs)
    found, written = match_photos(
        pairs,
        arguments.root,
        arguments.model,
        arguments,
        save=arguments.save,
        out=arguments.out,
        max_side=arguments.max_side,
        device=arguments.device,
    )
    for pair in found:
        counts = ", ".join(f"{name} {count}" for name, count in pair.found.counts)
        _print(f"{' '.join(pair.names)}: {counts}")
        if not pair.found.counts[0][1]:
            _print(f"{pair.names[0]}: no keypoints; try --keypoints-from grid")
    total = sum(len(pair.found.matches_N4) for pair in found)
    files = f"; wrote {', '.join(map(str, written))}" if written else ""
    _print(f"{counted(total, 'match')}{files}")
    return 0


def run(args: Sequence[str]) -> int:
    """`ucn run --config FILE [KEY=VALUE ...]`"""
    if not args or args[0] in ("-h", "--help"):
        sys.stdout.write(
            "usage: ucn run --config FILE.yaml [KEY=VALUE ...]\n\n"
            "Preprocess, train and evaluate. Finished work is not repeated.\n"
            "KEY=VALUE sets an option, such as train.steps=800. See configs/ for examples.\n"
        )
        return 0 if args else 2
    values, rest = read_layers(args, RunConfig)
    if rest:
        raise UserError(f"{rest[0]}: ucn run accepts only --config FILE and KEY=VALUE")
    return _run(RunConfig(**values))


def presets(args: Sequence[str]) -> int:
    """`ucn presets`"""
    parse(FrozenConfig, args, "ucn presets", "List the configurations that come with ucn.")
    for usage, names in groupby(sorted(preset_names(), key=preset_usage), preset_usage):
        _print(f"{usage}\n{columns({name: preset_summary(name) for name in names})}\n")
    return 0


def baselines(args: Sequence[str]) -> int:
    """`ucn baselines`"""
    parse(FrozenConfig, args, "ucn baselines", "List the baselines of `ucn evaluate`.")
    _print(columns(BASELINES.summaries()))
    return 0


def sync(args: Sequence[str]) -> int:
    """`ucn sync OUTPUT`"""
    arguments = parse(SyncArguments, args, "ucn sync", "Deliver to MLflow what it has missed.")
    from ucn.training.tracking import last_run, open_output, sync

    refused = 0
    with open_output(arguments.output) as folder:
        # The log has no passwords; the environment may.
        here = os.environ.get("MLFLOW_TRACKING_URI", "")
        found = [
            (run["time"], output, here if redact(here) == run["uri"] else run["uri"])
            for output in (folder, *folder.glob("*/"))
            if (run := last_run(output))
        ]
        if not found:
            raise UserError(
                f"{arguments.output}: no runs for MLflow; give the output of ucn train, evaluate "
                "or run"
            )
        # In the order of time: an evaluation finds the model of its training.
        for _, output, own in sorted(found):
            uri = arguments.uri or own
            counts = sync(output, uri)
            refused += counts["refused"]
            what = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
            place = arguments.output if output == folder else output
            _print(f"{place}: {what or 'nothing to deliver'} ({redact(uri)})")
    return 1 if refused else 0


def demo(args: Sequence[str]) -> int:
    """`ucn demo`"""
    arguments = parse(
        DemoArguments, args, "ucn demo", "Preprocess, train and evaluate on synthetic scenes."
    )
    from ucn.pipeline.demo import demo_config

    return _run(demo_config(arguments.out))


def _run(config: RunConfig) -> int:
    with notice("loading PyTorch and Ray Train"):
        from ucn.pipeline.run import run

    result = run(config)
    _print(f"model: {result.train.model}")
    _print_evaluation(result.evaluate)
    return 0


def _print_evaluation(result: Any) -> None:
    from ucn.training.tracking import experiment_page, last_run

    _print(result.markdown)
    _print(f"report: {result.report_path}")
    output = result.report_path.parent
    tracked, page = last_run(output), experiment_page(output)
    if tracked is None:
        return
    server = tracked["uri"]
    if page is None:
        _print(f"MLflow: {server} has not received the run; `ucn sync {output}` delivers it")
    elif server.startswith("http"):
        _print(f"MLflow: {page}")
    else:
        command = f"mlflow server --backend-store-uri {shlex.quote(server)}"
        _print(f"MLflow: {command}  (then open {page})")


def _print_json(values: dict[str, Any]) -> None:
    _print(json.dumps(values, indent=1))


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
