"""Dates and spans in the forms that people write, against pandas' own calendar."""

import numpy as np
import pandas as pd
import pytest

from nastavnik.errors import UserError
from nastavnik.kinds import describe_columns, read_column, to_columns

DAYS = pd.Series(pd.Timestamp("2013-01-01") + pd.to_timedelta(np.random.default_rng(0).integers(0, 1500, 200), "D"))
TIMES = DAYS + pd.to_timedelta(np.random.default_rng(1).integers(0, 1440, 200), "m")
FORMS = (
    "%d-%m-%Y", "%m/%d/%y", "%d/%m/%Y", "%b %d, %Y", "%d %B %Y", "%A, %B %d, %Y", "%Y%m%d", "%Y/%m/%d", "%d.%m.%y",
    "%d-%b-%Y", "%d%b%Y", "%Y-%b-%d", "%a %d %b %Y", "%d-%b-%y", "%d. %m. %Y",
)  # fmt: skip
TIMED = (
    "%d/%m/%Y %H:%M", "%m/%d/%Y %I:%M:%S %p", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%dT%H:%M:%SZ",
    "%a %b %d %H:%M:%S %Y", "%d.%m.%y %H:%M", "%d %b %Y, %H:%M", "%Y-%m-%d %H:%M:%S.%f", "%Y%m%dT%H%M%S",
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_days_in_any_common_form(form: str) -> None:
    frame = pd.DataFrame({"d": DAYS.dt.strftime(form)})
    (info,) = describe_columns(frame)
    assert info.kind == "date", info
    found = read_column(frame["d"], info).numbers
    np.testing.assert_array_equal(found["d.days"], (DAYS - pd.Timestamp("2000-01-01")).dt.days)
    np.testing.assert_array_equal(found["d.weekday"], DAYS.dt.day_of_week)
    np.testing.assert_array_equal(found["d.day"], DAYS.dt.day)
    np.testing.assert_allclose(found["d.year_sin"], np.sin(2 * np.pi * (DAYS.dt.day_of_year - 1) / 365.25))
    alone = read_column(frame["d"].iloc[[5]].reset_index(drop=True), info).numbers
    assert all(alone[name][0] == found[name][5] for name in found)


@pytest.mark.parametrize("form", TIMED)
def test_times_in_any_common_form(form: str) -> None:
    frame = pd.DataFrame({"d": TIMES.dt.strftime(form)})
    (info,) = describe_columns(frame)
    found = read_column(frame["d"], info).numbers
    np.testing.assert_allclose(found["d.hour"], TIMES.dt.hour + TIMES.dt.minute / 60)


def test_parts_of_a_date_and_times_of_day() -> None:
    months = pd.DataFrame(
        {"d": TIMES.dt.strftime("%b-%y"), "t": TIMES.dt.strftime("%I:%M %p"), "c": TIMES.dt.strftime("%H:%M")}
    )
    first, half, clock = describe_columns(months)
    found = read_column(months["d"], first).numbers
    np.testing.assert_array_equal(found["d.month"], TIMES.dt.month)
    assert "d.day" not in found
    for name, info in (("t", half), ("c", clock)):
        own = read_column(months[name], info).numbers
        assert set(own) == {f"{name}.hour", f"{name}.day_sin", f"{name}.day_cos"}
        np.testing.assert_allclose(own[f"{name}.hour"], TIMES.dt.hour + TIMES.dt.minute / 60)


def test_epochs_and_whole_numbers_that_are_days() -> None:
    seconds = (TIMES - pd.Timestamp("1970-01-01")) // pd.Timedelta("1s")
    frame = pd.DataFrame(
        {
            "timestamp": seconds,
            "created_at": seconds * 1000,
            "plain": seconds,
            "day": DAYS.dt.strftime("%Y%m%d").astype(int),
        }
    )
    infos = describe_columns(frame)
    assert [i.kind for i in infos] == ["date", "date", "number", "date"]
    for info in infos[:2]:
        hours = read_column(frame[info.name], info).numbers[f"{info.name}.hour"]
        np.testing.assert_allclose(hours, TIMES.dt.hour + TIMES.dt.minute / 60)


def test_day_or_month_first_by_the_rows_order_or_as_told() -> None:
    rising = pd.Series(pd.date_range("2019-01-01", "2019-12-12", freq="D"))
    few = rising[rising.dt.day <= 12].reset_index(drop=True)
    frame = pd.DataFrame({"d": few.dt.strftime("%d/%m/%Y")})
    (info,) = describe_columns(frame)
    assert info.reading["formats"] == ["%d/%m/%Y"]
    assert "as the rows then rise" in info.reason
    mixed = frame.sample(frac=1, random_state=0).reset_index(drop=True)
    (unsure,) = describe_columns(mixed)
    assert "exchanged" in unsure.reason
    (told,) = describe_columns(mixed, date_formats=["d=%d/%m/%Y"])
    assert read_column(pd.Series(["05/02/2019"]), told).numbers["d.month"][0] == 2


def test_two_forms_in_one_column_and_a_day_of_no_year() -> None:
    cells = [t.strftime("%d/%m/%Y") if i % 3 else t.strftime("%d/%m/%Y %H:%M") for i, t in enumerate(TIMES)]
    frame = pd.DataFrame({"d": cells, "e": DAYS.dt.strftime("%d-%b")})
    infos = describe_columns(frame)
    found = to_columns(frame, infos)
    assert not np.isnan(found.numbers).any()
    names = list(found.number_names)
    np.testing.assert_array_equal(found.numbers[:, names.index("e.month")], DAYS.dt.month)


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (["2h 50m", "50m", "3h", "1h 5m"], [10200, 3000, 10800, 3900]),
        (["1 day 3 hours", "2 days", "5 hours 10 minutes", "3 weeks 1 day"], [97200, 172800, 18600, 1900800]),
        (["PT2H30M", "PT45M", "P1DT1H", "PT10S"], [9000, 2700, 90000, 10]),
        (["75:30", "12:05", "99:59", "3:00"], [4530, 725, 5999, 180]),
        (["26:00:00", "1:30:00", "0:00:10", "100:00:01"], [93600, 5400, 10, 360001]),
    ],
)
def test_spans_are_seconds(cells: list[str], seconds: list[float]) -> None:
    frame = pd.DataFrame({"x": cells * 20})
    (info,) = describe_columns(frame)
    assert info.kind == "duration"
    np.testing.assert_allclose(read_column(frame["x"], info).numbers["x"][:4], seconds)


def test_a_column_of_other_things_than_dates_is_refused_but_a_few_are_missing() -> None:
    frame = pd.DataFrame({"d": DAYS.dt.strftime("%d-%m-%Y")})
    (info,) = describe_columns(frame)
    with pytest.raises(UserError, match="'d' holds dates, but row 1 says 'soon'; write dates as %d-%m-%Y"):
        read_column(pd.Series(["soon", "later", "01-02-2013"]), info)
    assert read_column(pd.Series(["soon", *frame["d"][:30]]), info).lost[0].count == 1


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("1927-02-03", "1969-11-11"),
        ("1995-01-01", "2010-12-31"),
        ("2013-01-01", "2017-06-01"),
        ("1940-05-05", "2004-02-29"),
    ],
)
def test_two_digits_of_a_year_are_those_of_the_columns_own_century(start: str, end: str) -> None:
    days = pd.Series(pd.date_range(start, end, periods=300).normalize())
    for form in ("%d/%m/%y", "%b %d, %y"):
        frame = pd.DataFrame({"d": days.dt.strftime(form)})
        (info,) = describe_columns(frame)
        assert info.kind == "date"
        np.testing.assert_array_equal(
            read_column(frame["d"], info).numbers["d.days"], (days - pd.Timestamp("2000-01-01")).dt.days
        )
