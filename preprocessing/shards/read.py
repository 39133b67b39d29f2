"""Random access to a dataset of shards through the sidecars' offsets."""

import zipfile
from pathlib import Path

import cv2

from preprocessing.errors import UserError
from preprocessing.sample import Sample
from preprocessing.shards.encode import decode_sample
from preprocessing.shards.format import (
    MANIFEST,
    IndexEntry,
    Manifest,
    read_manifest,
    read_sidecar,
    sidecar_path,
)
from preprocessing.shards.write import file_sha256

# What decoding damaged bytes raises.
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, cv2.error)


class ShardDataset:
    """The samples of a dataset by number, in the order of the plan.

    Opening reads the manifest and the sidecars; a sample is one read of its tar. Picklable and
    safe to use from several threads and processes.

    Attributes:
        folder: where the shards lie.
        manifest: as published.
        digest: sha256 of ``manifest.json``: names the dataset's exact content.
        keys: keys of all samples.

    Raises:
        UserError: no finished dataset there, or the sidecars disagree with the manifest.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.manifest: Manifest = read_manifest(self.folder)
        self.digest: str = file_sha256(self.folder / MANIFEST)
        self._entries: list[tuple[Path, IndexEntry]] = []
        for shard in self.manifest.shards:
            tar = self.folder / shard.name
            sidecar = read_sidecar(sidecar_path(tar))
            if (sidecar.sha256, sidecar.samples) != (shard.sha256, shard.samples):
                raise UserError(
                    f"{sidecar_path(tar)}: disagrees with {MANIFEST}; "
                    "run `ucn verify`, then `ucn preprocess` again"
                )
            self._entries.extend((tar, entry) for entry in sidecar.index)
        self.keys: list[str] = [entry.key for _, entry in self._entries]

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        """Read and decode sample ``index``.

        Raises:
            UserError: its tar is missing, cut or damaged.
        """
        tar, entry = self._entries[index]
        return read_sample(tar, entry)

    def index_of(self, key: str) -> int:
        """Number of the sample with this key.

        Raises:
            UserError: there is none.
        """
        try:
            return self.keys.index(key)
        except ValueError:
            raise UserError(
                f"{self.folder}: no sample {key!r}; its keys look like {self.keys[0]!r}"
                if self.keys
                else f"{self.folder}: holds no samples; see `skipped` in its {MANIFEST}"
            ) from None

    def sequence_of(self, index: int) -> str:
        """Name of the sequence of sample ``index``, without reading it."""
        return self._entries[index][1].sequence

    def matches_of(self, index: int) -> int:
        """Number of correspondences of sample ``index``, without reading it."""
        return self._entries[index][1].matches


def read_sample(tar: Path, entry: IndexEntry) -> Sample:
    """Read one sample from its tar.

    Raises:
        UserError: the tar is missing, cut or damaged.
    """
    start = min(offset for offset, _ in entry.members.values())
    end = max(offset + size for offset, size in entry.members.values())
    try:
        with tar.open("rb") as file:
            file.seek(start)
            data = file.read(end - start)
        members = {
            suffix: data[offset - start : offset - start + size]
            for suffix, (offset, size) in entry.members.items()
        }
        return decode_sample(entry.key, members)
    except _DAMAGE as error:
        raise UserError(
            f"{tar}: sample {entry.key} cannot be read ({error}); "
            "run `ucn verify`, then `ucn preprocess` again"
        ) from error
