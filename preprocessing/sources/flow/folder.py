"""Folders of image pairs with flow: Middlebury, FlyingChairs, or your own.

Middlebury: Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011.
FlyingChairs: Dosovitskiy et al., ICCV 2015; FlyingChairs2: Ilg et al., ECCV 2018.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ucn.errors import UserError
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.sources.base import PairReader, PairRef, Source
from ucn.preprocessing.sources.flow.layouts import PairFiles, find_flow_pairs
from ucn.preprocessing.sources.flow.pairs import FlowConfig, FlowFiles, FlowReader, sizes


class FlowFolderConfig(FlowConfig):
    """Image pairs with flow, named as in Middlebury or FlyingChairs, or listed in pairs.txt."""

    source: Literal["flow-folder"] = "flow-folder"
    root: str
    """Folder of the images and flow files."""
    sequences: tuple[str, ...] = ()
    """Sequences to take, named as in the samples' metadata; default all of the split."""

    def open_source(self) -> Source:
        return FlowFolderSource(self)


class FlowFolderSource:
    """Pairs found by :func:`find_flow_pairs`.

    If there is flow in both directions, matches must pass a forward-backward check. Otherwise,
    pixels of different surfaces that land on the same place are dropped.

    Raises:
        UserError: the folder is missing.
    """

    def __init__(self, config: FlowFolderConfig) -> None:
        self._config = config
        self._root = Path(config.root)
        if not self._root.is_dir():
            raise UserError(f"{self._root}: no such folder; pass the folder of the flow files")

    def pairs(self) -> list[PairRef]:
        found = {pair.sequence for pair in self._found}
        for sequence in self._config.sequences:
            if sequence not in found:
                there = ", ".join(sorted(found)[:5])
                raise UserError(f"{self._root}: no sequence {sequence}; there are {there}")
        chosen = set(self._config.sequences) or found
        return [pair for pair in self._found if pair.sequence in chosen]

    def key(self, pair: PairRef) -> str:
        return f"{pair.sequence}-{pair.frame0}-{pair.frame1}"

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        files = self._files(pair)
        return sizes(self._root, [files.photo0, files.photo1, files.flow, files.backward])

    def reader(self, pairs: Sequence[PairRef]) -> PairReader:
        return FlowReader(self._config, self._root, {pair: self._files(pair) for pair in pairs})

    def load(self, pair: PairRef) -> Sample:
        return self.reader([pair]).load(pair)

    def _files(self, pair: PairRef) -> FlowFiles:
        photo0, photo1, flow, backward = self._found[pair]
        return FlowFiles(
            self.key(pair),
            self._root / photo0,
            self._root / photo1,
            self._root / flow,
            self._root / backward if backward else None,
        )

    @cached_property
    def _found(self) -> dict[PairRef, PairFiles]:
        return find_flow_pairs(self._root, self._config.split)
