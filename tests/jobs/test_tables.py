"""Tables as people have them, fitted from beginning to end; each network count is small, each answer known beforehand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nastavnik
from nastavnik import UserError
from nastavnik.cli import main
from nastavnik.data import read_source
from nastavnik.dataset import DatasetOptions, make_dataset
from nastavnik.model import DataWarning

N = 500


def cars() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    km, power = rng.uniform(1, 200, N), rng.uniform(40, 200, N)
    day = pd.Timestamp("2015-01-01") + pd.to_timedelta(rng.integers(0, 1500, N), "D")
    frame = pd.DataFrame(
        {
            "id": np.arange(N) * 7 % 1009, "km": [f"{v:,.1f}k km" for v in km], "power": [f"{v:.0f} bhp" for v in power],
            "sold": day.strftime("%d-%m-%Y"), "tags": [",".join(t for t, on in zip("ABCDE", row, strict=True) if on) for row in rng.random((N, 5)) < 0.5],
        }
    )  # fmt: skip
    frame["price"] = 200 - km / 4 + power + 10 * frame["tags"].str.contains("A") + rng.normal(size=N)
    frame.loc[:19, "price"] = np.nan
    return frame


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> nastavnik.Run:
    place = tmp_path_factory.mktemp("cars")
    cars().to_csv(place / "cars.csv", index=False)
    return nastavnik.fit(place / "cars.csv", target="price", networks=6, folds=0, fill=True, out=place / "run")


def run_main(words: list[str]) -> object:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code


def folder_of(run: nastavnik.Run) -> Path:
    assert run.folder is not None
    return run.folder


def test_everything_that_columns_know_is_used(run: nastavnik.Run) -> None:
    assert {i.name: i.kind for i in run.dataset.infos} == {
        "km": "number",
        "power": "number",
        "sold": "date",
        "tags": "labels",
    }
    assert run.result["test"]["r2"]["value"] > 0.98
    told = json.loads((folder_of(run) / "dataset.json").read_text())
    assert told["not_used"] == {"id": "identifier"}
    assert all(len(c["examples"]) == 3 for c in told["columns"])
    report = (folder_of(run) / "report.html").read_text()
    assert "k km</code> →" in report


def test_rows_without_a_target_are_named_and_filled(run: nastavnik.Run) -> None:
    told = json.loads((folder_of(run) / "dataset.json").read_text())
    assert told["rows_without_target"] == list(range(20))
    assert min(told["split"]["train"]) >= 20
    filled = pd.read_csv(folder_of(run) / "filled.csv")
    assert filled["row"].tolist() == list(range(1, 21))
    assert run.filled is not None
    pd.testing.assert_frame_equal(filled, run.filled)
    assert any("20 of 500 rows have no price" in note for note in told["notes"])


def test_one_row_however_it_is_given(run: nastavnik.Run) -> None:
    record = {"km": "50k km", "power": "74 bhp", "sold": "03-05-2016", "tags": "A,C"}
    first = run.model.predict(record)
    for rows in ([record], pd.Series(record), pd.DataFrame([record]), {k: [v] for k, v in record.items()}):
        pd.testing.assert_frame_equal(run.model.predict(rows), first)
    assert len(str(run.model).splitlines()) == 4
    with pytest.warns(DataWarning, match=r"km: 1 rows lie far outside the training range"):
        run.model.predict({**record, "km": "90000k km"})
    with pytest.raises(UserError, match="'power' holds numbers, but row 1 says 'strong'"):
        run.model.predict({**record, "power": "strong"})


def test_levels_quantiles_and_kept_columns(run: nastavnik.Run, tmp_path: Path) -> None:
    frame = cars()
    wide, narrow = run.model.predict(frame), run.model.predict(frame, level=0.5, quantiles=[0.25, 0.75])
    assert (narrow["high"] < wide["high"]).all()
    np.testing.assert_allclose(narrow["q0.25"], narrow["low"])
    np.testing.assert_allclose(narrow["q0.75"], narrow["high"])
    frame.to_csv(tmp_path / "new.csv", index=False)
    out = tmp_path / "p.csv"
    words = [
        "predict",
        str(folder_of(run)),
        str(tmp_path / "new.csv"),
        "--keep",
        "id",
        "--level",
        "0.5",
        "--quantiles",
        "0.5",
        "--out",
        str(out),
    ]
    assert run_main(words) == 0
    told = pd.read_csv(out)
    assert list(told) == ["id", "prediction", "low", "high", "q0.5"]
    assert told["id"].tolist() == frame["id"].tolist()
    assert run_main([*words[:3], "--keep", "nothing"]) == 2
    assert run_main([*words[:3], "--level", "1.5"]) == 2


def test_grades_keep_their_order_and_names_of_classes_are_asked_for() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=N)
    frame = pd.DataFrame({"x": x, "y": np.clip(np.round(3 + 2 * x + 0.3 * rng.normal(size=N)), 0, 6).astype(int)})
    found = nastavnik.fit(frame, target="y", networks=4, folds=0)
    assert found.result["task"] == {"kind": "grades", "target": "y", "classes": [str(i) for i in range(7)]}
    assert {"accuracy", "r2", "mae"} <= set(found.result["test"])
    assert found.result["test"]["r2"]["value"] > 0.9
    predicted = found.model.predict(frame.head())
    p = predicted[[f"p_{i}" for i in range(7)]].to_numpy()
    np.testing.assert_allclose(predicted["expected"], p @ np.arange(7))
    assert "--task classification" in found.dataset.task.why
    for name, kind in (("label", "classification"), ("y", "grades")):
        table = read_source(frame.rename(columns={"y": name}))
        assert make_dataset(table, DatasetOptions(target=name)).task.kind == kind
    skipped = frame.assign(y=frame["y"] * 2)
    assert make_dataset(read_source(skipped), DatasetOptions(target="y")).task.kind == "classification"


def test_a_target_written_as_words_is_a_number_and_its_odd_rows_are_left_out() -> None:
    rng = np.random.default_rng(0)
    x = rng.random(N) * 20
    frame = pd.DataFrame({"x": x, "y": [f"${v:.2f} " for v in x], "income": np.where(x > 9, ">50K", "<=50K")})
    frame.loc[[3, 8], "y"] = ["unknown", "see note"]
    dataset = make_dataset(read_source(frame), DatasetOptions(target="y"))
    assert dataset.task.kind == "regression"
    assert dataset.unlabelled.tolist() == [3, 8]
    np.testing.assert_allclose(dataset.task.values, np.delete(x, [3, 8]), atol=0.006)
    assert make_dataset(read_source(frame), DatasetOptions(target="income")).task.classes == ("<=50K", ">50K")


def test_a_spike_at_zero_gets_a_chance_of_its_own() -> None:
    rng = np.random.default_rng(0)
    x = rng.random(N)
    y = np.where(rng.random(N) < 0.8 * (1 - x), 0.0, np.exp(2 * x + 0.2 * rng.normal(size=N)))
    frame = pd.DataFrame({"x": x, "y": y})
    found = nastavnik.fit(frame, target="y", networks=4, folds=0, settings={"likelihood.name": "hurdle"})
    low = found.model.predict(pd.DataFrame({"x": [0.05, 0.95]}), quantiles=[0.5])
    assert (found.model.predict(frame)["low"] >= 0).all()
    assert low["q0.5"][0] == 0
    assert abs(low["q0.5"][1] - np.exp(1.9)) < 2
    asked = nastavnik.fit(frame, target="y", networks=2, folds=0)
    assert any(note.startswith("likelihood ") and "hurdle" in note for note in asked.dataset.notes)
    with pytest.raises(UserError, match=r"likelihood\.name=gamma needs values above 0, but 'y' goes down to 0"):
        nastavnik.fit(frame, target="y", networks=2, folds=0, settings={"likelihood.name": "gamma"})


def test_a_weight_counts_like_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    x, first = rng.normal(size=N), rng.random(N) < 0.5
    frame = pd.DataFrame(
        {"x": x, "y": np.where(first, 2 * x, -2 * x) + 0.1 * rng.normal(size=N), "w": np.where(first, 3, 1)}
    )
    options: dict[str, Any] = {
        "networks": 4,
        "folds": 0,
        "family": "linear",
        "settings": {"optimizer.weight_decay": 0.0},
    }
    ends = pd.DataFrame({"x": [0.0, 1.0]})
    for run in (
        nastavnik.fit(frame, target="y", weights="w", **options),
        nastavnik.fit(frame[["x"]], frame["y"], sample_weight=frame["w"], **options),
    ):
        own = frame.iloc[run.dataset.split.train]
        right = np.polyfit(np.repeat(own.x, own.w), np.repeat(own.y, own.w), 1)[0]
        slope = np.diff(run.model.predict(ends)["prediction"])[0]
        plain = np.polyfit(own.x, own.y, 1)[0]
        assert abs(slope - right) < 0.35 * abs(right - plain)  # it stops early, by the validation rows
    rows = run.dataset.split.test
    y, w = frame.y.to_numpy()[rows], frame.w.to_numpy()[rows]
    error = run.model.predict(frame.iloc[rows])["prediction"].to_numpy() - y
    r2 = 1 - (w * error**2).sum() / (w * (y - np.average(y, weights=w)) ** 2).sum()
    assert run.result["test"]["r2"]["value"] == pytest.approx(r2, rel=1e-6)
    with pytest.raises(UserError, match=r"--weights w: row 1 says -3; weights are numbers from 0 up"):
        nastavnik.fit(frame.assign(w=-3.0), target="y", weights="w", networks=2)
    with pytest.raises(UserError, match="sample_weight must be 500 numbers"):
        nastavnik.fit(frame, target="y", sample_weight=[1, 2], networks=2)


def test_copies_stay_in_one_part() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    frame = pd.DataFrame(np.concatenate([x, x[:60]]), columns=list("abc")).assign(y=lambda f: f.a + f.b)
    for folds in (0, 5):
        split = make_dataset(read_source(frame), DatasetOptions(target="y", folds=folds)).split
        place = dict(zip(range(200, 260), range(60), strict=True))
        for part in (split.train, split.validation, split.test, *(v for _, v in split.folds or ())):
            ids = set(part.tolist())
            assert all((copy in ids) == (first in ids) for copy, first in place.items())


def test_a_table_without_a_header_is_predicted_row_by_row(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    (tmp_path / "t.data").write_text("".join(f"{a:.3f} {b:.3f} {a - b:.3f}\n" for a, b in x))
    run = nastavnik.fit(tmp_path / "t.data", target="2", networks=2, folds=0, family="linear", out=tmp_path / "run")
    (tmp_path / "one.data").write_text("0.5 0.25 0.0\n")
    assert nastavnik.predict(folder_of(run), tmp_path / "one.data")["prediction"][0] == pytest.approx(0.25, abs=0.05)
