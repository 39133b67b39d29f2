"""`ucn doctor`: arguments, the list of checks, output."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ucn.config import FrozenConfig
from ucn.errors import UserError
from ucn.pipeline.arguments import parse, read_values, split_assignments
from ucn.pipeline.locations import Location, locations_of, tracking_of
from ucn.pipeline.stages import check_stage, guess_stage
from ucn.training.config import DataConfig, TrackingConfig

if TYPE_CHECKING:
    from ucn.pipeline.doctor.findings import Check

_DESCRIPTION = """Check this machine, the cluster, storage and MLflow. Each line is ok, a warning or
a problem, with its remedy. The exit code is 0, or 2 if there is a problem.

KEY=VALUE words change options of the configuration."""


class DoctorArguments(FrozenConfig):
    """Arguments of `ucn doctor`."""

    config: Annotated[
        tyro.conf.UseAppendAction[tuple[Path, ...]], tyro.conf.arg(metavar="FILE")
    ] = ()
    """Configuration to check: inputs, outputs, tracking URI; later files win."""
    address: Annotated[str | None, tyro.conf.arg(metavar="URL")] = None
    """Dashboard to check, http://HOST:8265; otherwise RAY_API_SERVER_ADDRESS."""
    as_json: Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(name="json")] = False
    """Print JSON."""


def doctor(args: Sequence[str]) -> int:
    """`ucn doctor [--config FILE] [KEY=VALUE ...]`"""
    assignments, words = split_assignments(args)
    arguments = parse(DoctorArguments, words, "ucn doctor", _DESCRIPTION)
    values = read_values(arguments.config, assignments)
    from ucn.pipeline.doctor.findings import as_lines, run_checks

    findings = run_checks(all_checks(values, os.environ, Path.home(), arguments.address))
    if arguments.as_json:
        text = json.dumps([asdict(finding) for finding in findings], indent=1)
    else:
        text = as_lines(findings)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    return 2 if any(finding.status == "problem" for finding in findings) else 0


def all_checks(
    values: Mapping[str, Any], environment: Mapping[str, str], home: Path, dashboard: str | None
) -> list["Check"]:
    """The checks for the merged values of a configuration, which are empty without one."""
    from ucn.pipeline.doctor import machine
    from ucn.pipeline.doctor.findings import Check, Finding
    from ucn.pipeline.doctor.ray_cluster import check_ray
    from ucn.pipeline.doctor.services import check_mlflow, check_s3_endpoint
    from ucn.pipeline.doctor.storage import check_location

    config: FrozenConfig | None = None
    checks: list[Check] = []
    if values:
        stage = guess_stage(values)
        try:
            config = check_stage(stage, values)
            finding = Finding("configuration", "ok", f"one of `ucn {stage}`")
        except UserError as error:
            finding = Finding("configuration", "problem", f"{error} (read as `ucn {stage}`'s)")
        checks.append(Check("configuration", lambda: [finding]))
    locations = [Location("current folder", ".", "output")]
    tracking: TrackingConfig | None = TrackingConfig()
    if config is not None:
        locations, tracking = _outermost(locations_of(config)), tracking_of(config)
    network = "check the network, and the configured address"
    checks += [
        Check("versions", machine.check_versions),
        Check("gpu", machine.check_gpus, "nvidia-smi hangs; restart the GPU's driver"),
        Check("ray", partial(check_ray, environment, home, dashboard), network),
    ]
    if tracking is not None:
        checks.append(Check("mlflow", partial(check_mlflow, tracking.uri, environment), network))
    uses_s3 = any(location.uri.startswith("s3://") for location in locations)
    if uses_s3:
        checks.append(Check("s3 endpoint", partial(check_s3_endpoint, environment), network))
    hint = "check the network, AWS_ENDPOINT_URL, and whether a network disk hangs"
    checks += [Check(one.option, partial(check_location, one), hint) for one in locations]
    data = getattr(getattr(config, "train", config), "data", None)
    cache_gib = (data if isinstance(data, DataConfig) else DataConfig()).cache_gib
    folders = [("outputs", Path(one.uri)) for one in locations if one.is_local_output]
    # Ray keeps sessions there, and objects that do not fit into memory.
    temporary = environment.get("RAY_TMPDIR") or environment.get("TMPDIR") or "/tmp"
    folders.append(("ray", Path(temporary) / "ray"))
    if cache_gib and uses_s3:
        from ucn.preprocessing.shards.cache_folder import default_folder

        folders.append(("cache", default_folder()))
    return [
        *checks,
        Check("disk", partial(machine.check_disks, folders, cache_gib)),
        Check("memory", machine.check_memory),
        Check("threads", partial(machine.check_threads, environment)),
    ]


def _outermost(locations: Sequence[Location]) -> list[Location]:
    """Leaves out what the stages make, and local outputs below another output."""
    outputs = {Path(one.uri) for one in locations if one.is_local_output}
    return [
        one
        for one in locations
        if one.role != "intermediate"
        and not (one.is_local_output and set(Path(one.uri).parents) & outputs)
    ]
