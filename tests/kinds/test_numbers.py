"""Numbers as people write them, each beside what it means."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nastavnik.errors import UserError
from nastavnik.kinds import ColumnInfo, Features, describe_columns, read_column

RNG = np.random.default_rng(0)
VALUES = np.round(RNG.uniform(5, 95, 300), 1)


def read(cells: list[str], **wishes: object) -> tuple[ColumnInfo, Features]:
    frame = pd.DataFrame({"x": cells}, dtype=object)
    (info,) = describe_columns(frame, **wishes)  # type: ignore[arg-type]
    return info, read_column(frame["x"], info)


@pytest.mark.parametrize(
    ("form", "factor"),
    [
        (lambda v: f"{v} kmpl", 1),
        (lambda v: f"{v:.0f}CC", None),
        (lambda v: f"${v * 100:,.2f}", 100),
        (lambda v: f"{v} %", 1),
        (lambda v: f"{v}%", 1),
        (lambda v: f"{v}k", 1000),
        (lambda v: f"{v}M", 1),
        (lambda v: f"${v}M", 1_000_000),
        (lambda v: f"€ {v}", 1),
        (lambda v: f"{v} €".replace(".", ","), 1),
        (lambda v: f"€ {v * 1000:,.2f}".replace(",", "'"), 1000),
        (lambda v: f"{v * 1000:,.1f}".replace(",", " ").replace(".", ","), 1000),
        (lambda v: f"({v})", -1),
        (lambda v: f"-${v}", -1),
        (lambda v: f"−{v}", -1),
        (lambda v: f"+{v}", 1),
        (lambda v: f"{v:.4e}", 1),
        (lambda v: f"Rs. {v * 10000:,.0f}/-", 10_000),
        (lambda v: f"~ {v}", 1),
        (lambda v: f"#{v:.0f}", None),
        (lambda v: f"{v:.0f}th", None),
        (lambda v: f"{v} sq ft", 1),
        (lambda v: f"{int(v)} ft {int(v) % 12} in", None),
        (lambda v: f"{v}".replace(".", "．"), 1),
    ],
)
def test_a_written_number_is_its_value(form: object, factor: float | None) -> None:
    info, found = read([form(v) for v in VALUES])  # type: ignore[operator]
    assert info.kind == "number"
    if factor is not None:
        np.testing.assert_allclose(found.numbers["x"], VALUES * factor, rtol=1e-3)
    else:
        assert np.corrcoef(found.numbers["x"], VALUES)[0, 1] > 0.99
    assert not found.lost


def test_units_of_one_dimension_are_brought_to_one_scale() -> None:
    for units in (("kg", 1000, "g"), ("km", 1 / 1.609344, "mi"), ("h", 60, "min")):
        cells = [f"{v} {units[0]}" if i % 2 else f"{v * units[1]} {units[2]}" for i, v in enumerate(VALUES)]
        _, found = read(cells)
        ratio = found.numbers["x"] / VALUES
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
    warm = [f"{v}°C" if i % 2 else f"{v * 1.8 + 32:.3f}°F" for i, v in enumerate(VALUES)]
    told = read(warm)[1].numbers["x"]
    assert np.corrcoef(told, VALUES)[0, 1] > 0.9999


def test_multipliers_stand_beside_bare_numbers() -> None:
    _, found = read([f"{v / 1000:.4f}k" if i % 3 else f"{v:.4f}" for i, v in enumerate(VALUES)])
    np.testing.assert_allclose(found.numbers["x"], VALUES, rtol=1e-2)
    _, found = read([f"{v / 10:.3f}M" if i % 3 else f"{v * 100:.1f}k" for i, v in enumerate(VALUES)])
    np.testing.assert_allclose(found.numbers["x"], VALUES * 1e5, rtol=1e-2)


def test_units_that_no_factor_joins_stay_told() -> None:
    _, found = read([f"${v}" if i % 2 else f"€{v}" for i, v in enumerate(VALUES)])
    np.testing.assert_allclose(found.numbers["x"], VALUES)
    assert set(found.words["x.unit"][:2]) == {"$", "€"}


def test_ranges_are_middle_and_width_and_open_ends_as_wide_as_the_others() -> None:
    ages = ["<18", "18-24", "25 – 34", "35 to 44", "45-54", "55-64", "65+"] * 20
    _, found = read(ages)
    np.testing.assert_allclose(found.numbers["x"][:7], [13.5, 21, 29.5, 39.5, 49.5, 59.5, 69.5])
    assert found.numbers["x.width"][1] == 6
    _, found = read([f"${int(v)}K - ${int(v) + 20}K" for v in VALUES])
    np.testing.assert_allclose(found.numbers["x"], (VALUES.astype(int) + 10) * 1000)


def test_an_open_range_reads_alone_as_among_others() -> None:
    cells = ["<18", "18-24", "25-34", "35-44", "65+"] * 20
    frame = pd.DataFrame({"x": cells}, dtype=object)
    (info,) = describe_columns(frame)
    alone = read_column(frame["x"].iloc[[4]].reset_index(drop=True), info)
    assert alone.numbers["x"][0] == read_column(frame["x"], info).numbers["x"][4]


def test_several_numbers_in_a_cell_are_several_features() -> None:
    cells = [f"{v}Nm@ {int(v) * 40}rpm" if i % 3 else f"{v}@ {int(v) * 40:,}(Nm@ rpm)" for i, v in enumerate(VALUES)]
    _, found = read(cells)
    np.testing.assert_allclose(found.numbers["x.1"], VALUES)
    np.testing.assert_allclose(found.numbers["x.2"], VALUES.astype(int) * 40)
    _, found = read([f"{int(v) + 60}/{int(v) + 20}" for v in VALUES])
    np.testing.assert_allclose(found.numbers["x.2"], VALUES.astype(int) + 20)


def test_a_few_odd_cells_are_missing_and_said_with_their_row() -> None:
    cells = [str(v) for v in VALUES]
    cells[7], cells[90] = "see note", "approx"
    info, found = read(cells)
    assert info.kind == "number"
    assert np.flatnonzero(np.isnan(found.numbers["x"])).tolist() == [7, 90]
    assert "2 cells are no numbers, taken as missing (first: row 8, 'see note')" in str(found.lost[0])


def test_words_for_nothing_are_missing_and_other_words_are_kept() -> None:
    gone = ["N/A", "--", "none", "Not Available", "tbd", ".", "unknown"]
    _, found = read([str(v) if i % 5 else gone[i // 5 % 7] for i, v in enumerate(VALUES)])
    assert np.isnan(found.numbers["x"]).sum() == 60
    assert not found.lost
    assert not found.words
    _, found = read([str(v) if i % 3 else ("low", "high")[i % 2] for i, v in enumerate(VALUES)])
    assert set(found.words["x.word"]) == {"low", "high", None}


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["<=50K", ">50K"] * 80, "category"),
        (["5", "5+", "6"] * 60, "number"),
        (["7 Average", "8 Good", "6 Low", "9 Better"] * 40, "category"),
        ([f"0{i % 90:04d}" for i in range(400)], "category"),
        ([f"{c}{i % 9}" for i in range(200) for c in "AB"], "category"),
        ([f"4.{i % 5}.{i % 3}" for i in range(200)], "category"),
        ([f"555-{100 + i * 7 % 900}-{1000 + i * 13 % 9000}" for i in range(300)], "identifier"),
    ],
)
def test_codes_are_no_numbers(cells: list[str], kind: str) -> None:
    assert read(cells)[0].kind == kind


def test_the_users_word_wins_as_far_as_anything_can_be_read() -> None:
    frame = pd.DataFrame({"x": ["red", "blue", "5", "see 7"] * 10}, dtype=object)
    (info,) = describe_columns(frame, {"x": "number"})
    np.testing.assert_array_equal(read_column(frame["x"], info).numbers["x"][:3], [np.nan, np.nan, 5])
    with pytest.raises(UserError, match="--kind x=number: no cell can be read as a number, such as 'red'"):
        describe_columns(pd.DataFrame({"x": ["red", "blue"]}), {"x": "number"})


def test_told_values_are_missing_here_and_at_prediction() -> None:
    frame = pd.DataFrame({"x": [*VALUES, *[-200.0] * 20], "z": 999.0})
    info, other = describe_columns(frame, missing=["x=-200"])
    assert (info.missing, other.missing) == (20, 0)
    assert np.isnan(read_column(pd.Series(["-200.0", "5"]), info).numbers["x"][0])
    assert describe_columns(frame, missing=["-200", "999"])[1].missing == 320


def test_a_value_beyond_reason_is_missing_and_one_that_stands_apart_is_asked_about() -> None:
    from nastavnik.kinds import audit, to_columns

    frame = pd.DataFrame({"far": [*VALUES, *[-1e30] * 5], "apart": [*VALUES, *[-200.0] * 5]})
    infos = describe_columns(frame)
    columns = to_columns(frame, infos)
    assert np.isnan(columns.numbers[:, 0]).sum() == 5
    found = audit(frame, infos, columns, np.arange(305.0), classes=False)
    (asked,) = (f for f in found if f["check"] == "sentinel")
    assert "say --missing apart=-200" in asked["message"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6).map(lambda v: round(v, 2)), min_size=30, max_size=60, unique=True),
    st.sampled_from(["{:,.2f}", "{:.2f} km", "${:,.2f}", "{:.2f}%", "{:.2f}"]),
)
def test_what_is_written_is_read_back(values: list[float], form: str) -> None:
    info, found = read([form.format(v) for v in values])
    assert info.kind == "number"
    np.testing.assert_allclose(found.numbers["x"], values, atol=0.005 + 1e-9)
    assert all(math.isfinite(v) for v in found.numbers["x"])


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["($1,234.50)", "$99.00", "($5.00)"], [-1234.5, 99, -5]),
        (["(12.19%)", "29.49%", "(0.5%)"], [-12.19, 29.49, -0.5]),
        (["158.59-", "465.46", "332.50-"], [-158.59, 465.46, -332.5]),
        (["₹1,07,990", "₹54,999", "₹1,02,990", "₹999"], [107990, 54999, 102990, 999]),
        ([*(f"{k},{k * 7 % 900 + 100}" for k in range(10, 99)), "12,5"], [10170, 11177, 12184]),
        ([*(f"€ {k}.{k * 7 % 900 + 100}" for k in range(10, 99)), "€ 850", "€ 90"], [10170, 11177, 12184]),
        (["850", *(f"{k}.{k * 7 % 900 + 100}" for k in range(10, 99)), "90"], [850, 10170, 11177]),
        (["€ 48.490,-", "€ 9.990,-", "€ 850,-"], [48490, 9990, 850]),
        ([f"{k / 1000:.3f}" for k in range(1001, 1400)], [1.001, 1.002, 1.003]),
        (["$500 million to $1 billion (USD)", "$1 to $5 million (USD)", "$2 to $5 billion (USD)"], [7.5e8, 3e6, 3.5e9]),
        (["<10", "10-49", "50-99", "100-500", "500-999", "1000-4999"], [5, 29.5, 74.5, 300]),
        ([f"{k} m²" for k in range(30, 200)], [30, 31, 32]),
        ([f"{k} m2" for k in range(30, 200)], [30, 31, 32]),
        (["0.78 Cr", "54 Lakh", "1.2 Cr"], [7.8e6, 5.4e6, 1.2e7]),
        (["1999-00", "2000-01", "2013-14"], [1999.5, 2000.5, 2013.5]),
    ],
)
def test_what_was_once_misread(cells: list[str], values: list[float]) -> None:
    info, found = read(cells * 10)
    assert info.kind == "number"
    np.testing.assert_allclose(found.numbers["x"][: len(values)], values)


@pytest.mark.parametrize(
    "cells",
    [
        ["34B", "32C", "36D", "34A"],
        [f"{k % 30 + 1}{'ABCDEF'[k * 7 % 6]}" for k in range(120)],
        ["464.75 CR", "328.04 DR", "120.00 CR", "99.10 DR"],
        [f"{k}E{k % 9 + 1}" for k in range(10, 40)],
    ],
)
def test_letters_of_codes_are_no_units(cells: list[str]) -> None:
    assert read(cells * 10)[0].kind == "category"


def test_a_score_is_two_numbers_and_no_range() -> None:
    _, found = read(["122-98", "109-111", "103-93", "110-104"] * 30)
    np.testing.assert_array_equal(found.numbers["x.2"][:4], [98, 111, 93, 104])


@pytest.mark.parametrize("name", ["Air Quality Index", "price_index", "id_02"])
def test_measures_are_no_identifiers_by_their_name(name: str) -> None:
    frame = pd.DataFrame({name: [*(f"{k * 37 % 401}" for k in range(120)), "-"]})
    assert describe_columns(frame)[0].kind == "number"


def test_categoricals_are_what_their_words_are() -> None:
    for cells, kind in (
        (["5 kg", "300 g", "7 kg"], "number"),
        (["2019-09-13", "2018-02-16"], "date"),
        (["Y", "N"], "boolean"),
        (["a b", "c d"], "category"),
    ):
        assert describe_columns(pd.DataFrame({"x": pd.Series(cells * 30).astype("category")}))[0].kind == kind
