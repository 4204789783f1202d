import gzip
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nastavnik.data import Columns, read_source
from nastavnik.data._idx import read_idx
from nastavnik.errors import UserError
from nastavnik.kinds import KINDS, audit, describe_columns, to_columns
from nastavnik.kinds._audit import _by_neighbours, _told


def write_idx(path: Path, values: np.ndarray) -> None:
    head = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    raw = head + values.astype(">u1").tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


@pytest.fixture
def idx_folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = tmp_path / "small"
    folder.mkdir()
    for part, n in (("train", 50), ("t10k", 10)):
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 4, 5)))
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", rng.integers(0, 3, n))
    return folder


def test_idx_images_are_pictures_with_their_own_test_part(idx_folder: Path) -> None:
    table = read_source(idx_folder)
    assert table.frame.shape == (60, 2)
    assert table.target == "label"
    assert table.part is not None
    assert (table.part == "test").sum() == 10
    images = read_idx(idx_folder / "train-images-idx3-ubyte.gz")
    np.testing.assert_array_equal(table.frame["image"][7].load(), images[7])


def test_a_cut_or_lonely_idx_file_is_refused(idx_folder: Path) -> None:
    path = idx_folder / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="is no whole IDX file"):
        read_source(idx_folder)
    path.unlink()
    with pytest.raises(UserError, match="needs pairs of IDX files"):
        read_source(idx_folder)


def test_mnist_is_mnist(real_data: Path) -> None:
    table = read_source(real_data / "mnist")
    assert table.frame.shape == (70_000, 2)
    assert table.part is not None
    assert (table.part == "test").sum() == 10_000
    assert table.frame["label"][:5].tolist() == [5, 0, 4, 1, 9]


def test_every_built_in_set_is_read() -> None:
    shapes = {
        "digits": (1797, 65),
        "iris": (150, 5),
        "wine": (178, 14),
        "breast_cancer": (569, 31),
        "diabetes": (442, 11),
    }
    for name, shape in shapes.items():
        table = read_source(name)
        assert table.frame.shape == shape
        assert table.target == "target"


def test_parquet_frames_and_arrays_are_one_table(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": ["x", "y", "x"]})
    frame.to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(read_source(tmp_path / "t.parquet").frame, frame)
    assert read_source(frame).origin["sha256"] == read_source(frame.copy()).origin["sha256"]
    table = read_source(np.eye(3), y=[1, 2, 3])
    assert list(table.frame.columns) == ["x0", "x1", "x2", "target"]


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "picture.png").write_bytes(b"x")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1nonsense")
    (tmp_path / "folder").mkdir()
    cases = {
        "digts": "no file digts; did you mean 'digits'",
        str(tmp_path / "none.csv"): "there is no file",
        str(tmp_path / "empty.csv"): "is empty",
        str(tmp_path / "picture.png"): "of no kind we read",
        str(tmp_path / "bad.parquet"): "no Parquet file",
        str(tmp_path / "folder"): "holds no table, no pictures",
    }
    for source, sentence in cases.items():
        with pytest.raises(UserError, match=sentence):
            read_source(source)
    with pytest.raises(UserError, match="2 columns named 'a'"):
        read_source(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(UserError, match="a value for each of 3 rows"):
        read_source(np.eye(3), y=[1, 2])


def checks(frame: pd.DataFrame, target: np.ndarray, *, classes: bool) -> dict[str, str]:
    infos = describe_columns(frame)
    inputs = [i for i in infos if not KINDS[i.kind].left_out]
    columns: Columns = to_columns(frame, inputs)
    return {f["check"]: f["message"] for f in audit(frame, infos, columns, target, classes=classes)}


def test_the_audit_names_what_is_odd(rng: np.random.Generator) -> None:
    n = 400
    y = rng.normal(size=n)
    frame = pd.DataFrame(
        {
            "good": rng.normal(size=n),
            "same": 1.0,
            "holes": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
            "endless": np.where(np.arange(n) == 3, np.inf, rng.normal(size=n)),
            "answer": y * 3 + 1,
            "remark": [f"remark number {i} in words" for i in range(n)],
        }
    )
    frame["copy"] = frame["good"]
    found = checks(frame, y, classes=False)
    assert set(found) == {"missing", "infinite", "constant", "duplicate columns", "leak"}
    assert "answer alone tells the target" in found["leak"]
    assert "copy repeats good" in found["duplicate columns"]
    assert "same" in found["constant"]


def test_the_audit_sees_repeated_rows_imbalance_and_class_leaks(rng: np.random.Generator) -> None:
    n = 400
    y = (rng.random(n) < 0.05).astype(int)
    frame = pd.DataFrame({"a": rng.normal(size=n), "told": y * 2.0 + rng.normal(0, 0.01, n)})
    frame.iloc[50:60] = frame.iloc[40:50].to_numpy()
    y[50:60] = y[40:50]
    found = checks(frame, y, classes=True)
    assert "10 rows repeat an earlier row" in found["duplicate rows"]
    assert "told alone tells the target" in found["leak"]
    assert "rarest has" in found["imbalance"]


def test_neighbours_tell_what_a_column_tells(rng: np.random.Generator) -> None:
    x = rng.permutation(2000) / 2000
    for y in (3 * x + 1, np.sin(6 * x), np.floor(5 * x)):
        assert _told(_by_neighbours(x, y, False), y, False) > 0.999
    noise = rng.normal(size=2000)  # from a line between the nearest rows of the other half, a steps below, b above
    line = sum(2.0 ** -(a + b) * (a * a + b * b) / (a + b) ** 2 for a in range(1, 40) for b in range(1, 40))
    assert _told(_by_neighbours(x, noise, False), noise, False) == pytest.approx(-line, abs=0.1)
    classes = (x > 0.3).astype(int) + (x > 0.8)
    assert _told(_by_neighbours(x, classes, True), classes, True) > 0.99
    level = rng.integers(0, 4, 2000).astype(float)  # of a code: the mean of the rows that have it
    y = np.array([5.0, -1.0, 2.0, 0.0])[level.astype(int)]
    assert _told(_by_neighbours(level, y, False), y, False) == 1.0


def test_a_healthy_table_passes_the_audit(rng: np.random.Generator) -> None:
    frame = pd.DataFrame(rng.normal(size=(300, 4)), columns=list("abcd"))
    target = frame["a"].to_numpy() + rng.normal(size=300)
    assert checks(frame, target, classes=False) == {}
