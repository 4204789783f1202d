"""Names before places: what a model is given never depends on the types or the order of the table at hand."""

import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nastavnik.data import Preparation, plain_frame
from nastavnik.errors import UserError
from nastavnik.kinds import audit, describe_columns, read_column, to_columns

N = 40
RNG = np.random.default_rng(3)
TYPED = pd.DataFrame(
    {
        "word": RNG.choice(["a", "b"], N),
        "flag": RNG.random(N) < 0.5,
        "code": RNG.integers(0, 4, N),
        "first": RNG.normal(size=N),
        "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(RNG.integers(0, 900, N), "D"),
        "second": RNG.normal(size=N),
    }
)
KINDS = {"code": "category"}
# the same cells as other programs hand them over
WAYS = {
    "word": [lambda c: c, lambda c: c.astype("category"), lambda c: " " + c + "  "],
    "flag": [lambda c: c, lambda c: c.astype(int), lambda c: c.map({True: "True", False: "False"})],
    "code": [lambda c: c, lambda c: c.astype(float), lambda c: c.astype(str), lambda c: c.astype(float).astype(str)],
    "first": [lambda c: c, lambda c: c.map(repr), lambda c: c.astype(object)],
    "day": [
        lambda c: c,
        lambda c: c.dt.strftime("%Y-%m-%d"),
        lambda c: c.dt.strftime("%Y-%m-%d %H:%M:%S"),
        lambda c: c.dt.date.astype(object),
    ],
    "second": [lambda c: c, lambda c: c.map(repr).astype("string")],
}


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_types_and_order_at_hand_never_matter(data: st.DataObject) -> None:
    def handed_over() -> pd.DataFrame:
        frame = pd.DataFrame({n: data.draw(st.sampled_from(ways))(TYPED[n]) for n, ways in WAYS.items()})
        return frame[data.draw(st.permutations(list(frame)))]

    infos = describe_columns(plain_frame(handed_over()), KINDS)
    names = {info.name: info for info in infos}
    ordered = [names[str(n)] for n in TYPED]
    columns = to_columns(plain_frame(handed_over()), ordered)
    assert [columns.source(name) for name in dict.fromkeys(map(columns.source, columns.number_names))] == [
        "flag", "first", "day", "second",
    ]  # fmt: skip
    assert columns.number_names[2:6] == ("day.days", "day.year", "day.month", "day.day")
    np.testing.assert_array_equal(columns.numbers[:, 1], TYPED["first"])
    np.testing.assert_array_equal(columns.numbers[:, -1], TYPED["second"])
    np.testing.assert_array_equal(columns.numbers[:, 0], TYPED["flag"])
    np.testing.assert_array_equal(columns.numbers[:, 3], TYPED["day"].dt.year)
    assert columns.words.tolist() == [[w, str(c)] for w, c in zip(TYPED["word"], TYPED["code"], strict=True)]


def test_a_missing_number_that_makes_an_object_column_moves_nothing() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0], "c": [5.0, 6.0]})
    infos = describe_columns(frame, dict.fromkeys("abc", "number"))
    columns = to_columns(pd.DataFrame([{"a": 1.0, "b": None, "c": 5.0}]), infos)
    np.testing.assert_array_equal(columns.numbers, [[1.0, np.nan, 5.0]])


def test_preparation_finds_columns_by_name_and_refuses_others() -> None:
    infos = describe_columns(TYPED, KINDS)
    columns = to_columns(TYPED, infos)
    prepared = Preparation.fit(columns, np.arange(N))
    shuffled = to_columns(TYPED, infos[::-1])
    assert shuffled.number_names != columns.number_names
    right, same = prepared.apply(columns), prepared.apply(shuffled)
    assert right.numbers.equal(same.numbers)
    assert right.categories.equal(same.categories)
    with pytest.raises(UserError, match="not those that were prepared: second"):
        prepared.apply(to_columns(TYPED, [i for i in infos if i.name != "second"]))


def test_names_and_cells_of_frames_are_stripped_as_in_files() -> None:
    frame = plain_frame(pd.DataFrame({" a ": ["x ", " y"], "b": pd.Categorical(["p ", "q"])}))
    assert frame.to_dict("list") == {"a": ["x", "y"], "b": ["p", "q"]}
    with pytest.raises(UserError, match="2 columns named 'a'"):
        plain_frame(pd.DataFrame({"a": [1], "a ": [2]}))
    with pytest.raises(UserError, match="'z' holds complex numbers"):
        plain_frame(pd.DataFrame({"z": [1j]}))


def test_one_and_one_point_zero_are_one_level() -> None:
    frame = pd.DataFrame({"c": ["1", "1.0", 1, 1.0, "2", "2.00"] * 10})
    (info,) = describe_columns(frame, {"c": "category"})
    assert info.reading["levels"] == ["1", "2"]
    assert info.distinct == 2
    assert set(read_column(frame["c"], info).words["c"]) == {"1", "2"}


def test_a_level_that_a_program_reads_as_a_number_is_found_again() -> None:
    (info,) = describe_columns(pd.DataFrame({"c": ["007", "011", "1e3", "x"] * 10}), {"c": "category"})
    assert read_column(pd.Series([7, 11, 1000.0, 12]), info).words["c"].tolist() == ["007", "011", "1e3", "12"]
    (both,) = describe_columns(pd.DataFrame({"v": ["1.1", "1.10", "b"] * 10}), {"v": "category"})
    assert read_column(pd.Series(["1.1", "1.10"]), both).words["v"].tolist() == [
        "1.1",
        "1.10",
    ]  # two levels of one number stay two


def test_one_cell_may_tell_day_from_month() -> None:
    words = [f"01/{1 + i % 12:02d}/2019" for i in range(200)] + ["15/03/2020"]
    (info,) = describe_columns(pd.DataFrame({"d": words}))
    assert (info.kind, info.reading["formats"]) == ("date", ["%d/%m/%Y"])
    columns = to_columns(pd.DataFrame({"d": words}), [info])
    assert not np.isnan(columns.numbers).any()
    assert columns.numbers[1, columns.number_names.index("d.month")] == 2


def test_dates_that_could_be_read_both_ways_are_said() -> None:
    frame = pd.DataFrame({"d": [f"{1 + i % 12:02d}/{1 + i % 7:02d}/2019" for i in range(100)], "y": range(100)})
    infos = describe_columns(frame)
    found = audit(frame[["d"]], infos[:1], to_columns(frame, infos[:1]), np.arange(100.0), classes=False)
    assert any("day and month could be exchanged" in f["message"] for f in found)


@pytest.mark.parametrize("form", ["%d-%b-%Y", "%d-%m-%Y", "%Y-%m-%dT%H:%M:%S", "%d %B %Y"])
def test_the_format_of_a_given_date_is_decided_once(form: str) -> None:
    days = pd.Timestamp("2013-01-01") + pd.to_timedelta(np.arange(100) * 11, "D")
    frame = pd.DataFrame({"d": days.strftime(form)})
    (info,) = describe_columns(frame, {"d": "date"})
    together = to_columns(frame, [info])
    alone = to_columns(frame.iloc[[5]], [info])
    np.testing.assert_array_equal(alone.numbers[0], together.numbers[5])
    np.testing.assert_array_equal(together.numbers[:, 2], days.month)


def test_a_given_date_that_reads_nowhere_is_refused() -> None:
    with pytest.raises(UserError, match="--kind d=date: no cell reads as a date, such as 'soon'"):
        describe_columns(pd.DataFrame({"d": ["soon", "later"]}), {"d": "date"})


def test_zones_are_read_alike_from_timestamps_and_words() -> None:
    days = pd.date_range("2020-01-01 23:00", periods=30, freq="D", tz="Europe/Berlin")
    words = pd.DataFrame({"d": [day.isoformat() for day in days]})
    for frame in (pd.DataFrame({"d": days}), words):
        (info,) = describe_columns(frame)
        for other in (pd.DataFrame({"d": days}), words, pd.DataFrame({"d": pd.Series(list(days), dtype=object)})):
            columns = to_columns(other, [info])
            assert columns.numbers[0, columns.number_names.index("d.hour")] == 22  # UTC


def test_an_odd_date_is_said_with_its_row() -> None:
    frame = pd.DataFrame({"d": [datetime.date(2020, 1, 1 + i % 28).isoformat() for i in range(99)] + ["32.13.2020"]})
    (info,) = describe_columns(frame, {"d": "date"})
    columns = to_columns(frame, [info])
    assert str(columns.lost[0]).startswith("d: 1 cell is no date written as %Y-%m-%d, taken as missing (first: row 100")


@pytest.mark.parametrize("cell", [1.8e308, np.inf, -np.inf, -3.4028235e38, 1e200])
def test_huge_cells_count_as_missing_and_are_said(cell: float) -> None:
    values = np.append(np.arange(99.0), cell)
    for frame in (pd.DataFrame({"x": values}), pd.DataFrame({"x": [repr(float(v)) for v in values]})):
        infos = describe_columns(frame, {"x": "number"})
        columns = to_columns(frame, infos)
        assert np.flatnonzero(np.isnan(columns.numbers[:, 0])).tolist() == [99]
        found = audit(frame, infos, columns, np.arange(100.0), classes=False)
        assert any(f["check"] == "infinite" and "row 100" in f["message"] for f in found)
        assert np.isfinite(Preparation.fit(columns, np.arange(100)).apply(columns).numbers.numpy()).all()


def test_a_column_that_is_huge_throughout_is_kept() -> None:
    frame = pd.DataFrame({"x": np.linspace(1, 2, 50) * 1e44})
    infos = describe_columns(frame)
    prepared = Preparation.fit(to_columns(frame, infos), np.arange(50)).apply(to_columns(frame, infos))
    assert float(prepared.numbers[:, 0].std(correction=0)) == pytest.approx(1, abs=1e-4)
