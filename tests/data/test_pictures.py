"""Folders, archives, tables of paths and arrays of pictures; what is no picture is refused in a sentence."""

from __future__ import annotations

import os
import shutil
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from nastavnik.cli import main
from nastavnik.data import Table, read_source
from nastavnik.dataset import Dataset, DatasetOptions, make_dataset
from nastavnik.errors import UserError
from nastavnik.kinds import Cells, copies_across
from nastavnik.kinds._pixels import near_keys


def save(path: Path, pixels: np.ndarray, mode: str = "RGB", **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path, **options)


def pixels(seed: int, red: bool = False, size: tuple[int, int] = (10, 12)) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 200, (*size, 3))
    values[..., 0] += 50 * red
    return values.astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of fifteen pictures each."""
    place = tmp_path / "pets"
    for c, name in enumerate(("cat", "dog")):
        for i in range(15):
            save(place / name / f"{i}.png", pixels(100 * c + i, bool(c)))
    return place


def dataset(source: Any, fewest_rows: int = 20, **options: Any) -> Dataset:
    table = source if isinstance(source, Table) else read_source(source)
    return make_dataset(table, DatasetOptions(**options), fewest_rows=fewest_rows)


def test_a_folder_for_each_class_is_a_table_of_pictures(folder: Path) -> None:
    table = read_source(folder)
    assert list(table.frame.columns) == ["image", "class"]
    assert table.target == "class"
    found = dataset(table)
    field = found.columns.fields["image"]
    assert field.values.dtype == np.uint8
    assert field.values.shape == (30, 10, 12, 3)
    np.testing.assert_array_equal(field.values[15], pixels(100, True))
    assert found.task.classes == ("cat", "dog")


def test_a_folder_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refused(path: Any) -> Any:
        if str(path).endswith("cat"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match=r"the folder .*/cat cannot be read \(Permission denied\)"):
        read_source(folder)


def test_a_zip_is_read_in_place_and_gives_the_same(folder: Path, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "pets"), "zip", folder)
    packed = dataset(tmp_path / "pets.zip")
    np.testing.assert_array_equal(packed.columns.fields["image"].values, dataset(folder).columns.fields["image"].values)


def test_parts_of_a_folder_are_obeyed(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "parts" / "train")
    shutil.copytree(folder, tmp_path / "parts" / "test")
    found = dataset(tmp_path / "parts")
    assert found.split.method == "as given"
    assert len(found.split.test) == 30
    told = [f["message"] for f in found.audit if f["check"] == "copies"]
    assert any(
        "rows are the same as one of the training part but stand in the test part" in message for message in told
    )


def test_a_table_with_paths_beside_it_or_in_one_archive(folder: Path, tmp_path: Path) -> None:
    lines = [f"{c}/{i}.png,{c}" for c in ("cat", "dog") for i in range(15)]
    (folder / "list.csv").write_text("photo,pet\n" + "\n".join(lines) + "\n")
    beside = dataset(folder / "list.csv", target="pet")
    assert beside.infos[0].kind == "image"
    shutil.make_archive(str(tmp_path / "all"), "zip", folder)
    packed = dataset(tmp_path / "all.zip", target="pet")
    np.testing.assert_array_equal(packed.columns.fields["photo"].values, beside.columns.fields["photo"].values)
    np.testing.assert_array_equal(dataset(folder, target="pet").columns.fields["photo"].values.shape, (30, 10, 12, 3))


@pytest.mark.parametrize(
    "line, sentence",
    [
        ("cat/none.png,cat", r"photo: row 31, there is no file cat/none\.png"),
        ("../away.png,cat", r"photo: row 31, \.\./away\.png lies outside the folder"),
        ("/etc/hostname.png,cat", r"photo: row 31, /etc/hostname\.png lies outside the folder"),
    ],
)
def test_paths_that_lead_nowhere(folder: Path, line: str, sentence: str) -> None:
    lines = [f"{c}/{i}.png,{c}" for c in ("cat", "dog") for i in range(15)]
    (folder / "list.csv").write_text("\n".join(["photo,pet", *lines, line]) + "\n")
    save(folder.parent / "away.png", pixels(1))
    with pytest.raises(UserError, match=sentence):
        dataset(folder / "list.csv", target="pet")


@pytest.mark.parametrize("start", ["gone/", "https://example.org/"])
def test_names_of_which_none_is_there_are_words(folder: Path, start: str) -> None:
    lines = [f"{start}{i}.png,{i % 2}" for i in range(30)]
    (folder / "list.csv").write_text("\n".join(["photo,pet", *lines]) + "\n")
    table = read_source(folder / "list.csv")
    assert isinstance(table.frame["photo"][0], str)
    assert any("none of which is there" in note for note in table.notes) == (start == "gone/")


def test_a_frame_of_paths_is_read_where_it_is_told_to(folder: Path) -> None:
    paths = [str(folder / c / f"{i}.png") for c in ("cat", "dog") for i in range(15)]
    frame = pd.DataFrame({"photo": paths, "pet": ["cat"] * 15 + ["dog"] * 15})
    found = dataset(read_source(frame), target="pet", kinds={"photo": "image"})
    np.testing.assert_array_equal(found.columns.fields["photo"].values[0], pixels(0))


def test_texts_in_a_folder_for_each_class(tmp_path: Path) -> None:
    for name in ("ham", "spam"):
        (tmp_path / name).mkdir()
        for i in range(40):
            (tmp_path / name / f"{i}.txt").write_bytes(f"this caf\xe9 number {i} is {name} indeed".encode("latin-1"))
    table = read_source(tmp_path)
    assert list(table.frame.columns) == ["text", "class"]
    assert "café" in table.frame["text"][0]
    assert dataset(table).columns.fields["text"].sort == "tokens"


def test_an_empty_cell_is_a_missing_picture(folder: Path) -> None:
    lines = [f"{c}/{i}.png,{c}" for c in ("cat", "dog") for i in range(15)]
    (folder / "list.csv").write_text("\n".join(["photo,pet", *lines, ",cat"]) + "\n")
    found = dataset(folder / "list.csv", target="pet")
    assert found.columns.number_names == ("photo.missing",)
    assert found.columns.numbers[:, 0].tolist() == [0.0] * 30 + [1.0]
    assert not found.columns.fields["photo"].values[30].any()


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("fault", ["text", "cut", "huge", "empty"])
def test_what_is_no_picture_is_named_by_row_and_file(folder: Path, fault: str) -> None:
    bad = folder / "cat" / "x.jpg"
    save(bad, pixels(1, size=(64, 64)))
    whole = bad.read_bytes()
    content = {"text": b"hello", "cut": whole[: len(whole) // 2], "huge": _png(30_000, 30_000), "empty": b""}
    bad.write_bytes(content[fault])
    sentence = {"text": "is no picture", "cut": "is cut short or damaged", "huge": "far too large", "empty": "is empty"}
    with pytest.raises(UserError, match=rf"image: row 16, cat/x\.jpg: it {sentence[fault]}|{sentence[fault]}"):
        dataset(folder)


def test_odd_pictures_are_taken_and_said(folder: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    save(folder / "cat" / "e.jpg", pixels(1, size=(12, 10)), exif=turned)
    save(folder / "cat" / "c.jpg", pixels(2), mode="CMYK")
    grey = np.linspace(0, 65535, 120).reshape(10, 12).astype(np.uint16)
    Image.fromarray(grey).save(folder / "cat" / "deep.png")
    frames = [Image.fromarray(pixels(i)) for i in range(3)]
    frames[0].save(folder / "cat" / "moving.gif", save_all=True, append_images=frames[1:])
    found = dataset(folder)
    said = " ".join(f["message"] for f in found.audit)
    for words in ("turned as its EXIF data says", "CMYK", "more than 8 bits", "animated", "1 grey"):
        assert words in said
    names = [str(cell) for cell in read_source(folder).frame["image"]]
    deep = found.columns.fields["image"].values[names.index("cat/deep.png")]
    np.testing.assert_allclose(deep[..., 0], grey / 257.0, atol=1)


def test_pictures_of_many_bits_are_scaled_alike(folder: Path) -> None:
    for i, top in enumerate((4000, 200)):  # twelve bits in sixteen
        grey = np.linspace(0, top, 120).reshape(10, 12).astype(np.uint16)
        Image.fromarray(grey).save(folder / "cat" / f"deep{i}.png")
    found = dataset(folder)
    names = [str(cell) for cell in read_source(folder).frame["image"]]
    for i, top in enumerate((4000, 200)):
        own = found.columns.fields["image"].values[names.index(f"cat/deep{i}.png")]
        assert own.max() == round(255 * top / 4095)
    assert any("0 to 4095 is brought to 0 to 255" in f["message"] for f in found.audit)


def test_a_folder_beside_the_parts_is_asked_about(folder: Path, tmp_path: Path) -> None:
    for part in ("train", "test"):
        shutil.copytree(folder, tmp_path / "parts" / part)
    save(tmp_path / "parts" / "pred" / "5.png", pixels(5))
    with pytest.raises(UserError, match="parts test, train and beside them pred, which is none"):
        read_source(tmp_path / "parts")


def test_words_for_missing_are_missing_pictures_too(folder: Path) -> None:
    lines = [f"{c}/{i}.png,{c}" for c in ("cat", "dog") for i in range(15)]
    (folder / "list.csv").write_text("\n".join(["photo,pet", *lines, "NA,cat", "?,dog"]) + "\n")
    found = dataset(folder / "list.csv", target="pet")
    assert found.columns.numbers[:, 0].sum() == 2


def test_a_grid_of_which_some_row_is_beyond_bytes_is_an_array(rng: np.random.Generator) -> None:
    x = rng.integers(0, 200, (60, 8, 8))
    x[50, 0, 0] = 300
    assert dataset(read_source((x, np.arange(60) % 2))).infos[0].kind == "array"


def test_data_sets_of_numbers_words_and_odd_targets() -> None:
    def of(pairs: list[tuple[Any, Any]]) -> Any:
        class Own(torch.utils.data.Dataset):
            def __len__(self) -> int:
                return len(pairs)

            def __getitem__(self, i: int) -> Any:
                return pairs[i]

        return Own()

    x = torch.randn(30, 4)
    table = read_source(of([(x[i], x[i, :1]) for i in range(30)]))
    np.testing.assert_allclose(table.frame["target"], x[:, 0].numpy(), rtol=1e-6)
    assert list(table.frame.columns) == ["x0", "x1", "x2", "x3", "target"]
    words = read_source(of([(f"a text of words {i}", i % 2) for i in range(30)]))
    assert words.frame["x"][3] == "a text of words 3"
    with pytest.raises(UserError, match="item 0 of the data set must have one target"):
        read_source(of([(x[i], x[i, :2]) for i in range(30)]))


def test_sizes_are_brought_to_one_and_said(folder: Path) -> None:
    save(folder / "cat" / "large.png", pixels(3, size=(100, 120)))
    found = dataset(folder)
    assert found.columns.fields["image"].values.shape[1:] == (10, 12, 3)
    assert any(f["check"] == "sizes" for f in found.audit)


def test_the_size_may_be_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dataset(folder, picture_size=6).columns.fields["image"].values.shape[1:] == (5, 6, 3)
    assert dataset(folder, picture_size=500).columns.fields["image"].values.shape[1:] == (10, 12, 3)  # never enlarged
    save(folder / "cat" / "wide.png", pixels(3, size=(10, 300)))
    assert dataset(folder, picture_size=500).columns.fields["image"].values.shape[1:] == (10, 12, 3)
    with pytest.raises(SystemExit) as ended:
        main(["fit", str(folder), "--picture-size", "1", "--quiet"])
    assert ended.value.code == 2
    assert "--picture-size must be from 2 to 1024 pixels" in capsys.readouterr().err


def test_folders_and_archives_that_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "bird").mkdir()
    with pytest.raises(UserError, match=r"the folder bird in .* holds no picture"):
        read_source(folder)
    (folder / "bird").rmdir()
    shutil.rmtree(folder / "dog")
    with pytest.raises(UserError, match="has 1 class, 'cat', in every row"):
        dataset(folder, fewest_rows=5)
    save(folder / "loose.png", pixels(1))
    with pytest.raises(UserError, match=r"loose\.png in .* stands in no class's folder"):
        read_source(folder)
    with zipfile.ZipFile(tmp_path / "slip.zip", "w") as file:
        file.writestr("../x/a.png", b"x")
    with pytest.raises(UserError, match="which leads out of it"):
        read_source(tmp_path / "slip.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for i in range(2):
            file.writestr(f"a/{i}.png", b"\0" * (150 << 20))
    with pytest.raises(UserError, match="would unpack to 300 MB"):
        read_source(tmp_path / "bomb.zip")


def test_arrays_images_and_data_sets_are_one_and_the_same(tmp_path: Path) -> None:
    x = np.stack([pixels(i) for i in range(30)])
    y = np.arange(30) % 2

    class Pairs(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 30

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            return torch.from_numpy(x[i]).permute(2, 0, 1).float() / 255, int(y[i])

    np.savez(tmp_path / "a.npz", x=x, y=y)
    images = pd.DataFrame({"x": [Image.fromarray(p) for p in x], "target": y})
    for source in ((x, y), (x.transpose(0, 3, 1, 2), y), Pairs(), tmp_path / "a.npz", images):
        found = dataset(read_source(source), target="target")
        np.testing.assert_array_equal(found.columns.fields["x"].values, x)
    for source in ((x, y), Pairs(), tmp_path / "a.npz"):
        assert dataset(read_source(source)).task.kind == "classification"


def test_an_npz_of_parts_and_one_of_other_names(tmp_path: Path) -> None:
    x, y = np.stack([pixels(i) for i in range(40)]), np.arange(40) % 2
    np.savez(tmp_path / "a.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    assert len(dataset(tmp_path / "a.npz").split.test) == 10
    np.savez(tmp_path / "b.npz", first=x)
    with pytest.raises(UserError, match=r"must hold arrays x and y .* it holds first \(40, 10, 12, 3\)"):
        read_source(tmp_path / "b.npz")


def test_arrays_that_are_no_pictures_are_a_kind_of_their_own(rng: np.random.Generator) -> None:
    x = rng.normal(size=(30, 4, 5))
    found = dataset(read_source((x, x.mean((1, 2)))))
    assert found.infos[0].kind == "array"
    np.testing.assert_allclose(found.columns.fields["x"].values, x, rtol=1e-6)


def test_near_copies_are_found_and_others_are_not(rng: np.random.Generator) -> None:
    first = rng.integers(0, 256, (50, 32, 32, 3)).astype(np.uint8)
    smooth = np.repeat(np.repeat(rng.integers(0, 256, (50, 4, 4, 3)), 8, 1), 8, 2).astype(np.uint8)
    brighter = np.clip(smooth * 0.9 + 10, 0, 255).astype(np.uint8)
    assert (near_keys([smooth]) == near_keys([brighter])).mean() > 0.9
    assert len(set(near_keys([smooth]).tolist())) == 50
    assert not near_keys([np.full((3, 32, 32, 1), 77, dtype=np.uint8)]).any()
    assert len(near_keys([first])) == 50


def test_copies_across_the_split_are_told(folder: Path) -> None:
    found = dataset(folder)
    keys = np.arange(30, dtype=np.uint64) + 1
    keys[29] = keys[0]
    told = copies_across(keys, found.columns, (("training", np.arange(20)), ("test", np.arange(20, 30))))
    assert [f["check"] for f in told] == ["copies"]
    assert "first: row 30" in told[0]["message"]


def test_cells_of_pictures_have_names(folder: Path) -> None:
    cells = Cells("image", read_source(folder).frame["image"])
    assert cells.words[0] == "cat/0.png"
    assert cells.distinct == 30
