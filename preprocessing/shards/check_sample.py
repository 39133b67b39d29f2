"""Checks of a single sample against the shard format."""

from collections.abc import Iterator

import numpy as np

from ucn.preprocessing.sample import Sample


def sample_faults(sample: Sample) -> Iterator[str]:
    """Violations of the shard format, one line each."""
    matches = sample.matches_N4
    if matches.dtype != np.float32 or matches.ndim != 2 or matches.shape[1] != 4:
        yield f"matches are {matches.dtype} {matches.shape}, not float32 [N, 4]"
        return
    if not np.isfinite(matches).all():
        yield "matches are not finite"
    for image, columns in ((sample.image0, matches[:, :2]), (sample.image1, matches[:, 2:])):
        height, width = image.shape[:2]
        inside = (columns >= -0.5).all(1) & (columns <= np.array([width, height]) - 0.5).all(1)
        if not inside.all():
            yield f"{int((~inside).sum())} matches lie outside their image"
    if len(np.unique(matches, axis=0)) != len(matches):
        yield "matches are duplicated"
    if sample.metadata.get("matches") != len(matches):
        yield f"{len(matches)} matches where the metadata says {sample.metadata.get('matches')}"
    for name, values in sample.attributes.items():
        if values.shape[:1] != (len(matches),):
            yield f"attribute {name} is {list(values.shape)} for {len(matches)} matches"
