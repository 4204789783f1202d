"""From a folder of pictures, and from a column of sentences, to a report, predictions, a check and the same bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import nastavnik
from nastavnik.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark and bright pictures of two sizes."""
    place = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("bright", 170)):
        (place / name).mkdir()
        for i in range(40):
            side = 10 if i % 3 else 14
            pixels = np.clip(rng.normal(level, 30, (side, side)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(place / name / f"{i}.png")
    return place


def sha(run: Path) -> str:
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def fitted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> nastavnik.Run:
    out = tmp_path_factory.mktemp("runs") / "pictures"
    return nastavnik.fit(folder, out=out, networks=4, folds=0, settings={"epochs": 8})


def test_a_folder_of_pictures_is_fitted_and_shown(fitted: nastavnik.Run) -> None:
    assert set(fitted.networks["network.family"]) == {"cnn"}
    assert fitted.result["test"]["accuracy"]["value"] == 1.0
    assert fitted.folder is not None
    page = (fitted.folder / "report.html").read_text()
    assert page.count('class="thumb"') > 20
    assert "what it is" in page


def test_pictures_in_a_file_give_the_same_bytes(fitted: nastavnik.Run, folder: Path, tmp_path: Path) -> None:
    """What does not fit into the memory allowed is read as it is needed, in the same order."""
    assert fitted.folder is not None
    small = {"networks": 4, "folds": 0, "settings": {"epochs": 8}}
    nastavnik.fit(folder, out=tmp_path / "run", memory="0MB", **small)  # type: ignore[arg-type]
    assert sha(tmp_path / "run") == sha(fitted.folder)
    with pytest.raises(UserError, match="--memory 'much' is no size; write 500MB or 2GB"):
        nastavnik.fit(folder, memory="much")


def test_new_pictures_are_predicted_from_anything(fitted: nastavnik.Run, folder: Path, tmp_path: Path) -> None:
    assert fitted.folder is not None
    whole = nastavnik.predict(fitted.folder, folder, keep=["image"], out=tmp_path / "p.parquet")
    assert (whole["prediction"] == [n.split("/")[0] for n in whole["image"]]).mean() > 0.95
    alone = nastavnik.predict(fitted.folder, folder / "dark")
    assert set(alone["prediction"]) == {"dark"}
    model = nastavnik.Model.load(fitted.folder)
    image = Image.open(folder / "bright" / "1.png")
    for row in ({"image": image}, [{"image": np.asarray(image)}], {"image": str(folder / "bright" / "1.png")}):
        assert model.predict(row)["prediction"].tolist() == ["bright"]


def test_the_same_seed_gives_the_same_bytes(fitted: nastavnik.Run, folder: Path, tmp_path: Path) -> None:
    again = nastavnik.fit(folder, out=tmp_path / "again", networks=4, folds=0, settings={"epochs": 8})
    assert fitted.folder is not None
    assert again.folder is not None
    assert sha(again.folder) == sha(fitted.folder)


def test_sentences_are_read_three_ways(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plain = ["the", "film", "was", "and", "with", "story", "actors", "that", "it", "scenes"]
    moods = {"good": ["lovely", "bright", "funny"], "bad": ["dull", "grim", "stale"]}
    rows = []
    for i in range(160):
        mood = ("good", "bad")[i % 2]
        words = [*rng.choice(plain, 6), rng.choice(moods[mood])]
        rows.append((" ".join(rng.permutation(words)), mood))
    frame = pd.DataFrame(rows, columns=["review", "mood"])
    run = nastavnik.fit(frame, target="mood", networks=9, folds=0, settings={"epochs": 30}, out=tmp_path / "run")
    assert {"linear", "mlp", "bag"} <= set(run.networks["network.family"])
    assert run.result["test"]["accuracy"]["value"] > 0.9
    assert run.result["baselines"]["linear_on_words"]["test"]["accuracy"]["value"] > 0.9
    assert 'class="excerpt"' in (tmp_path / "run" / "report.html").read_text()
    assert run.model.predict({"review": "a lovely and funny film"})["prediction"].tolist() == ["good"]
