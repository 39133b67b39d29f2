"""The cache of images of OANet's layout, which is bounded by size."""

import pytest

from ucn.preprocessing.sources.yfcc import frames
from ucn.preprocessing.sources.yfcc.frames import cache_recent

BOUND = 100


@pytest.fixture(autouse=True)
def bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "CACHED_BYTES", BOUND)


def reads_of(nbytes: int, indices: list[int]) -> list[int]:
    """Indices that were read from disk while images of this size were asked for in turn."""
    read: list[int] = []

    def make(sequence: str, index: int) -> int:
        read.append(index)
        return index

    cached = cache_recent(make, lambda _: nbytes)
    assert [cached("scene", index) for index in indices] == indices
    return read


def test_images_that_fit_are_read_once() -> None:
    assert reads_of(25, [0, 1, 2, 3, 0, 1, 2, 3]) == [0, 1, 2, 3]


def test_the_least_recently_used_makes_room() -> None:
    assert reads_of(40, [0, 1, 0, 2, 0, 1]) == [0, 1, 2, 1]


@pytest.mark.parametrize("nbytes", [BOUND, 10 * BOUND])
def test_the_two_images_of_a_pair_stay_however_large_they_are(nbytes: int) -> None:
    assert reads_of(nbytes, [0, 1, 0, 1, 2, 1, 2]) == [0, 1, 2]


def test_sequences_are_told_apart_and_errors_are_not_kept() -> None:
    cached = cache_recent(lambda sequence, index: 1 // index, lambda _: 1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            cached("scene", 0)
    names = cache_recent(lambda sequence, index: sequence, lambda _: 1)
    assert (names("a", 1), names("b", 1)) == ("a", "b")
