"""Arrays beyond what memory is allowed lie in a file: the same numbers, and nothing is left behind."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import numpy as np
import pytest

from nastavnik import rooms
from nastavnik.data import Field
from nastavnik.errors import UserError
from nastavnik.runs import parse_memory

SHAPE = (3000, 40, 40)  # 4.8 million bytes


def test_beyond_the_limit_arrays_lie_in_a_file_and_are_the_same() -> None:
    with rooms.limited(6e6):
        first, second, small = (rooms.room_for(s, np.uint8) for s in (SHAPE, SHAPE, (10,)))
    assert len(rooms._mapped) == 1  # the second one alone
    rng = np.random.default_rng(0)
    wanted = rng.integers(0, 256, SHAPE).astype(np.uint8)
    for start in range(0, len(wanted), 100):
        second[start : start + 100] = wanted[start : start + 100]
        rooms.touched(2**25)  # now and then its pages are let go
    np.testing.assert_array_equal(second, wanted)
    assert not first.any()
    assert not small.any()
    del second
    gc.collect()
    assert not rooms._mapped


def test_without_a_limit_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rooms.room_for(SHAPE, np.uint8)
    with rooms.limited(None):
        rooms.room_for(SHAPE, np.uint8)
    assert not rooms._mapped
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with (
        rooms.limited(0),
        pytest.raises(UserError, match=r"do not fit into .* \(No space left on device\); name a roomier"),
    ):
        rooms.room_for(SHAPE, np.uint8)


@pytest.mark.parametrize(
    ("word", "size"), [("500MB", 5e8), ("2gb", 2e9), ("1.5 GiB", 1.5 * 2**30), ("10k", 1e4), (7, 7), (None, None)]
)
def test_sizes_are_read_as_people_write_them(word: str | float | None, size: float | None) -> None:
    assert parse_memory(word) == size


def test_chosen_rows_of_a_field_are_read_when_they_are_asked_for() -> None:
    values = np.arange(24).reshape(6, 4).astype(np.uint8)
    own = Field(values, "array")
    some = own.take(np.array([5, 0, 3])).take(np.array([True, False, True]))
    assert some.held is values
    np.testing.assert_array_equal(some.values, values[[5, 3]])
    np.testing.assert_array_equal(np.concatenate(list(some.pieces())), values[[5, 3]])
    np.testing.assert_array_equal(some.row(1), values[3])
    np.testing.assert_array_equal(some.keys, own.keys[[5, 3]])
    assert len(some) == 2


def test_rows_that_go_through_a_network_together_are_fewer_the_larger_they_are() -> None:
    counts = [rooms.rows_at_once(row) for row in (0, 240, 28 * 28, 64 * 64 * 4, 10**9)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] > 1
    assert counts[3] * 64 * 64 * 4 <= rooms._PASS
