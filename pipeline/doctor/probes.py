"""Which probes there are, for a configuration or without one."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ucn.config import FrozenConfig
from ucn.errors import UserError
from ucn.pipeline.doctor.disk import look_at_disks
from ucn.pipeline.doctor.finding import Finding
from ucn.pipeline.doctor.gpus import look_at_gpus
from ucn.pipeline.doctor.memory import look_at_memory
from ucn.pipeline.doctor.ray_cluster import look_at_ray, ray_folder
from ucn.pipeline.doctor.run import Probe
from ucn.pipeline.doctor.storage import look_at_endpoint, look_at_place
from ucn.pipeline.doctor.threads import look_at_threads
from ucn.pipeline.doctor.tracking import look_at_tracking
from ucn.pipeline.doctor.versions import look_at_versions
from ucn.pipeline.places import Place, places_of, tracking_of
from ucn.pipeline.stages import check_stage, guess_stage
from ucn.preprocessing.shards.cache_folder import default_folder
from ucn.training.config import DataConfig, TrackingConfig

_NETWORK = "check the network, and the address that is configured"
_STORE = "check the network, AWS_ENDPOINT_URL, and whether a network disk hangs"


def all_probes(
    values: Mapping[str, Any], environment: Mapping[str, str], home: Path, address: str | None
) -> list[Probe]:
    """What there is to look at.

    Args:
        values: of a configuration, merged; empty without one.
        environment: of this process.
        home: of the user.
        address: of a dashboard, where the user names one.
    """
    config, complaint = _configuration(values)
    if config is None:
        places: list[Place] = [Place("current folder", ".", "output")]
        tracking: TrackingConfig | None = TrackingConfig()
    else:
        places = _outermost(places_of(config))
        tracking = tracking_of(config)
    probes = [Probe("configuration", lambda: complaint)] if complaint else []
    probes += [
        Probe("versions", look_at_versions),
        Probe("gpu", look_at_gpus, "restart the GPU's driver: nvidia-smi hangs"),
        Probe("ray", partial(look_at_ray, environment, home, address), _NETWORK),
    ]
    if tracking is not None:
        look = partial(look_at_tracking, tracking.uri, environment)
        probes.append(Probe("mlflow", look, _NETWORK))
    if any(place.uri.startswith("s3://") for place in places):
        probes.append(Probe("s3 endpoint", partial(look_at_endpoint, environment), _NETWORK))
    probes += [Probe(place.option, partial(look_at_place, place), _STORE) for place in places]
    cache_gib = _cache_gib(config)
    folders = _folders(places, environment, cache_gib)
    return [
        *probes,
        Probe("disk", partial(look_at_disks, folders, cache_gib), _STORE),
        Probe("memory", look_at_memory),
        Probe("threads", partial(look_at_threads, environment)),
    ]


def _configuration(values: Mapping[str, Any]) -> tuple[FrozenConfig | None, list[Finding]]:
    if not values:
        return None, []
    stage = guess_stage(values)
    try:
        return check_stage(stage, values), [Finding("configuration", "ok", f"one of `ucn {stage}`")]
    except UserError as error:
        return None, [Finding("configuration", "problem", f"{error} (read as `ucn {stage}`'s)")]


def _cache_gib(config: FrozenConfig | None) -> float:
    data = getattr(getattr(config, "train", config), "data", None)
    return (data if isinstance(data, DataConfig) else DataConfig()).cache_gib


def _folders(
    places: Sequence[Place], environment: Mapping[str, str], cache_gib: float
) -> list[tuple[str, Path]]:
    """Local folders that are written to, with what they are for."""
    folders = [("outputs", Path(place.uri)) for place in places if _is_local_output(place)]
    folders.append(("ray", ray_folder(environment)))
    if cache_gib and any(place.uri.startswith("s3://") for place in places):
        folders.append(("cache", default_folder()))
    return folders


def _outermost(places: Sequence[Place]) -> list[Place]:
    """Without what the stages make, and without local outputs that lie below another one."""
    outputs = [Path(place.uri) for place in places if _is_local_output(place)]
    return [
        place
        for place in places
        if place.role != "made"
        and not (_is_local_output(place) and set(Path(place.uri).parents) & set(outputs))
    ]


def _is_local_output(place: Place) -> bool:
    """Whether a place is a folder of this machine that is written to."""
    return place.role == "output" and "://" not in place.uri
