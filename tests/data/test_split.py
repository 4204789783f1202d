import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nastavnik.data import split_rows
from nastavnik.errors import UserError


@settings(max_examples=60, deadline=None)
@example(n=30, seed=620362, classes=4, folds=3)  # a class of one row
@given(
    n=st.integers(30, 400), seed=st.integers(0, 2**20), classes=st.integers(0, 4), folds=st.sampled_from([None, 3, 5])
)
def test_parts_are_disjoint_and_whole(n: int, seed: int, classes: int, folds: int | None) -> None:
    labels = np.random.default_rng(seed).integers(0, classes, n) if classes else None
    split = split_rows(n, seed=seed, classes=labels, folds=folds)
    rows = np.concatenate([split.train, split.validation, split.test])
    assert sorted(rows.tolist()) == list(range(n))
    assert abs(len(split.test) - 0.1 * n) <= max(1, classes)
    if folds:
        assert split.folds is not None
        held = np.concatenate([v for _, v in split.folds])
        rest = split.development
        if labels is not None:  # the only row of a class is never held out
            rest = rest[np.bincount(labels[rest])[labels[rest]] > 1]
        assert sorted(held.tolist()) == rest.tolist()
        for train, validation in split.folds:
            assert not set(train) & set(validation)
            assert not set(validation) & set(split.test)


def test_classes_keep_their_shares() -> None:
    labels = np.repeat([0, 1, 2], [500, 300, 200])
    split = split_rows(1000, seed=3, classes=labels, folds=5)
    for part in (split.train, split.validation, split.test, *[v for _, v in split.folds or ()]):
        shares = np.bincount(labels[part], minlength=3) / len(part)
        np.testing.assert_allclose(shares, [0.5, 0.3, 0.2], atol=0.02)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20), groups=st.integers(8, 200))
def test_groups_never_straddle(seed: int, groups: int) -> None:
    names = np.random.default_rng(seed).integers(0, groups, 400)
    split = split_rows(400, seed=seed, groups=names, folds=5)
    parts = [set(names[p]) for p in (split.train, split.validation, split.test)]
    assert parts[0].isdisjoint(parts[1] | parts[2])
    assert parts[1].isdisjoint(parts[2])
    for train, validation in split.folds or ():
        assert not set(names[train]) & set(names[validation])


def test_by_time_the_test_part_is_the_latest() -> None:
    times = np.random.default_rng(0).permutation(200).astype(float)
    split = split_rows(200, seed=0, times=times)
    assert times[split.train].max() < times[split.validation].min()
    assert times[split.validation].max() < times[split.test].min()


def test_given_parts_are_kept_and_seeds_differ() -> None:
    given_parts = np.array(["train"] * 80 + ["test"] * 20, dtype=object)
    split = split_rows(100, seed=0, given=given_parts)
    assert split.test.tolist() == list(range(80, 100))
    other = split_rows(100, seed=1)
    again = split_rows(100, seed=1)
    assert other.test.tolist() == again.test.tolist()
    assert other.test.tolist() != split_rows(100, seed=2).test.tolist()


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(UserError, match=r"validation part .* would be empty"):
        split_rows(40, seed=0, groups=np.array(["a"] * 20 + ["b"] * 20), test=0.5, validation=0.4)


def test_the_only_row_of_a_class_is_always_trained_on() -> None:
    classes = np.array([0] * 30 + [1] * 20 + [2])
    split = split_rows(51, seed=0, classes=classes, folds=5)
    assert 50 not in split.test
    for train, validation in split.folds or ():
        assert 50 in train
        assert 50 not in validation
    validated = np.sort(np.concatenate([v for _, v in split.folds or ()]))
    np.testing.assert_array_equal(validated, np.setdiff1d(split.development, [50]))
