import numpy as np
import pandas as pd
import pytest

from nastavnik.errors import UserError
from nastavnik.kinds import ColumnInfo, describe_columns, to_columns

N = 60


def kind_of(values: list[object] | np.ndarray, name: str = "c") -> ColumnInfo:
    return describe_columns(pd.DataFrame({name: values}))[0]


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("c", [str(i / 7) for i in range(N)], "number"),
        ("c", [f"{i},5" for i in range(N)], "number"),
        ("c", [f"1.{i:03d},25" for i in range(N)], "number"),
        ("c", [f"1,{i:03d}.50" for i in range(N)], "number"),
        ("c", ["?" if i % 9 == 0 else str(i * 3) for i in range(N)], "number"),
        ("c", ["unknown" if i == 7 else str(i * 3) for i in range(N)], "number"),
        ("c", ["yes", "no"] * (N // 2), "boolean"),
        ("c", [True, False] * (N // 2), "boolean"),
        ("c", ["red", "green", "blue"] * (N // 3), "category"),
        ("c", ["7 Average", "8 Good"] * (N // 2), "category"),
        ("c", [f"{1 + i % 12}/{1 + i % 28}/2014" for i in range(N)], "date"),
        ("c", [f"2014-{1 + i % 12:02d}-{1 + i % 28:02d}" for i in range(N)], "date"),
        ("c", [f"{1 + i % 28}.{1 + i % 12}.2014" for i in range(N)], "date"),
        ("c", list(pd.date_range("2020-01-01", periods=N)), "date"),
        ("id", [str(7_000_000 + i * 13) for i in range(N)], "identifier"),
        ("house_id", [7_000_000 + (i // 2) * 13 for i in range(N - 4)] + [1, 2, 3, 4], "identifier"),
        ("c", list(range(N)), "number"),
        ("id", list(range(N)), "identifier"),
        ("CustomerId", [15_000_000 + 7919 * i % 90_001 for i in range(N)], "identifier"),
        ("zipcode", [98_000 + i % 3 for i in range(N)], "category"),
        ("c", [f"a long remark number {i}, all its own" for i in range(N)], "text"),
        ("c", [f"a{i:05x}" for i in range(0, 7 * N, 7)], "identifier"),
    ],
)
def test_kinds_are_found(name: str, values: list[object], kind: str) -> None:
    assert kind_of(values, name).kind == kind


def test_numbers_are_read_with_comma_and_strange_words_for_missing() -> None:
    frame = pd.DataFrame(
        {"c": [f"{i},5" for i in range(50)], "q": ["?"] * 3 + ["unknown"] + [str(i) for i in range(46)]}
    )
    infos = describe_columns(frame)
    columns = to_columns(frame, infos)
    assert infos[1].missing == 3
    np.testing.assert_array_equal(columns.numbers[:, 0], np.arange(50) + 0.5)
    assert np.isnan(columns.numbers[:4, 1]).all()
    np.testing.assert_array_equal(columns.numbers[4:, 1], np.arange(46))


def test_marks_of_thousands_are_taken_out() -> None:
    frame = pd.DataFrame({"us": ["1,234", "2,345,678.5", "12"] * 10, "de": ["1.234,5", "2.345.678,5", "12"] * 10})
    columns = to_columns(frame, describe_columns(frame))
    np.testing.assert_array_equal(columns.numbers[:3], [[1234, 1234.5], [2345678.5, 2345678.5], [12, 12]])
    as_given = describe_columns(pd.DataFrame({"c": ["1,234", "5,678"] * 10}), decimal=",")[0]
    assert to_columns(pd.DataFrame({"c": ["1,234"]}), [as_given]).numbers[0, 0] == 1.234


def test_us_and_european_dates_are_told_apart() -> None:
    american = pd.DataFrame({"d": ["10/13/2014", "12/9/2014", "2/25/2015"] * 20})
    european = pd.DataFrame({"d": ["13/10/2014", "9/12/2014", "25/2/2015"] * 20})
    for frame in (american, european):
        columns = to_columns(frame, describe_columns(frame))
        names = list(columns.number_names)
        row = dict(zip(names, columns.numbers[0], strict=True))
        assert (row["d.year"], row["d.month"]) == (2014, 10)
        assert row["d.days"] == (pd.Timestamp("2014-10-13") - pd.Timestamp("2000-01-01")).days


def test_infinities_count_as_missing() -> None:
    frame = pd.DataFrame({"x": [1.0, np.inf, -np.inf, np.nan, 2.0] * 5})
    assert np.isnan(to_columns(frame, describe_columns(frame)).numbers).sum() == 15


def test_a_word_in_a_number_column_is_refused_at_prediction() -> None:
    infos = describe_columns(pd.DataFrame({"x": [str(i) for i in range(30)]}, dtype=object), {"x": "number"})
    with pytest.raises(UserError, match="'x' holds numbers, but row 2 says 'many'"):
        to_columns(pd.DataFrame({"x": ["1", "many"]}, dtype=object), infos)
    with pytest.raises(UserError, match="lacks the column 'x'; did you mean 'xx'"):
        to_columns(pd.DataFrame({"xx": ["1"]}), infos)


def test_a_word_that_is_neither_yes_nor_no_is_refused() -> None:
    infos = describe_columns(pd.DataFrame({"c": ["yes", "no"] * 20, "s": ["f", "m"] * 20}), {"s": "boolean"})
    columns = to_columns(pd.DataFrame({"c": ["No", "yes"], "s": ["m", "f"]}), infos)
    np.testing.assert_array_equal(columns.numbers, [[0, 1], [1, 0]])
    with pytest.raises(UserError, match="'c' holds no and yes, but row 1 says 'maybe'"):
        to_columns(pd.DataFrame({"c": ["maybe"], "s": ["m"]}), infos)


def test_kinds_can_be_given_and_mistakes_are_named() -> None:
    frame = pd.DataFrame({"grade": [1, 2, 3] * 20})
    assert describe_columns(frame, {"grade": "category"})[0].reading["levels"] == ["1", "2", "3"]
    with pytest.raises(UserError, match="'grad' that is not there; did you mean 'grade'"):
        describe_columns(frame, {"grad": "category"})
    with pytest.raises(UserError, match="no kind 'categry'; did you mean 'category'"):
        describe_columns(frame, {"grade": "categry"})


def test_descriptions_survive_json() -> None:
    frame = pd.DataFrame({"a": ["x", "y"] * 20, "b": [f"{i},1" for i in range(40)]})
    for info in describe_columns(frame):
        assert ColumnInfo.from_json(info.to_json()) == info
