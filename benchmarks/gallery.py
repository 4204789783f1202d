"""One command a kind of data, from raw files to a report, predictions, a check and a comparison: docs/gallery.md.

python benchmarks/gallery.py              # all six, half an hour on two cores; needs the real data and Chromium
python benchmarks/gallery.py flats        # one of them; the others' parts of the page stay

The page holds the commands as they are run here, what they print, and a picture of a part of each report.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from quality import reviews
from real_data import DATA

DOCS = Path(__file__).resolve().parents[1] / "docs"
CORES = len(os.sched_getaffinity(0))
PARTS = Path(__file__).resolve().parent / "results" / "gallery.json"


@dataclass(frozen=True)
class Case:
    """What is fitted, on what, what it is to predict, and which sections of its report the picture shows."""

    title: str
    tells: str
    make: Callable[[Path], None]
    fit: str
    new: str
    keep: str = ""
    shows: tuple[str, ...] = ("surprises",)


def digits(place: Path) -> None:
    """The IDX files under a name of their own, and twenty of their test pictures as new ones."""
    shutil.copytree(DATA / "mnist", place / "mnist")
    with gzip.open(DATA / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), dtype=np.uint8, offset=16).reshape(-1, 28, 28)
    (place / "new_digits").mkdir()
    for i in range(20):
        Image.fromarray(pixels[i]).save(place / "new_digits" / f"{i:02}.png")


def photographs(place: Path) -> None:
    """The archive as it is, and twenty of its test pictures in another."""
    shutil.copy(DATA / "cifar10.zip", place / "cifar10.zip")
    with zipfile.ZipFile(DATA / "cifar10.zip") as archive, zipfile.ZipFile(place / "new_pictures.zip", "w") as new:
        for i, name in enumerate([n for n in archive.namelist() if n.startswith("test/")][::100][:20]):
            new.writestr(f"{i:02}.jpg", archive.read(name))


def sentences(place: Path) -> None:
    """Reviews as a column of sentences, and three new ones."""
    reviews().to_csv(place / "reviews.csv", index=False)
    words = ["a warm , funny and moving story", "tedious from its first minute to its last", "it is a film"]
    pd.DataFrame({"review": words}).to_csv(place / "new_reviews.csv", index=False)


def flats(place: Path) -> None:
    """The example's flats as people keep them: a table with paths, and the photos beside it."""
    made_flats = runpy.run_path(str(DOCS.parent / "examples" / "joined.py"))["made"]
    for name, rows, seed in (("flats", 1200, 0), ("new_flats", 20, 1)):
        table = made_flats(rows, seed)
        (place / f"{name}_photos").mkdir()
        paths = [f"{name}_photos/{i}.png" for i in range(rows)]
        for path, pixels in zip(paths, table["photo"], strict=True):
            Image.fromarray(pixels).save(place / path)
        table["photo"] = paths
        table.drop(columns=[] if name == "flats" else ["price"]).to_csv(place / f"{name}.csv", index=False)


def exercises(place: Path) -> None:
    """Three exercises and three measures of twenty men (scikit-learn's linnerud)."""
    from sklearn.datasets import load_linnerud

    frame = load_linnerud(as_frame=True).frame
    frame.to_csv(place / "linnerud.csv", index=False)
    frame[["Chins", "Situps", "Jumps"]].head(5).to_csv(place / "new_men.csv", index=False)


def houses(place: Path) -> None:
    """Houses with a price and a grade, and twenty whose price and grade are not known."""
    table = pd.read_csv(DATA / "kc_house_data.csv")
    table.iloc[20:].to_csv(place / "kc_houses.csv", index=False)
    table.iloc[:20].drop(columns=["price", "grade"]).to_csv(place / "new_houses.csv", index=False)


CASES = {
    "mnist": Case(
        "Pictures in IDX files", "60,000 handwritten digits (LeCun et al. 1998).",
        digits, "mnist --budget 2m", "new_digits", "image",
    ),
    "cifar10": Case(
        "Pictures in an archive", "Photographs in ten folders of a `.zip`, read in place (Krizhevsky 2009).",
        photographs, "cifar10.zip --budget 4m", "new_pictures.zip", "image",
    ),
    "reviews": Case(
        "Sentences", "Film reviews, half of them praise (Pang & Lee 2005).",
        sentences, "reviews.csv --target sentiment --budget 1m", "new_reviews.csv", "review",
    ),
    "flats": Case(
        "A photo, a sentence, a number and a word in a row", "Flats made by `examples/joined.py`: each column tells a "
        "part of the price.",
        flats, "flats.csv --target price --budget 1m", "new_flats.csv", shows=("columns", "surprises"),
    ),
    "linnerud": Case(
        "Three targets", "Twenty men's weight, waist and pulse from three exercises (scikit-learn's `linnerud`).",
        exercises, "linnerud.csv --target Weight,Waist,Pulse --budget 40s", "new_men.csv", shows=("targets",),
    ),
    "king_county": Case(
        "A price and a grade at once", "Houses of King County, a real number and whole numbers from 1 to 13.",
        houses, "kc_houses.csv --target price,grade --budget 2m", "new_houses.csv", "id", shows=("targets",),
    ),
}  # fmt: skip


def run(words: str, place: Path) -> str:
    """What a command prints, of a fit the summary; it has to succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "nastavnik", *words.split()], cwd=place, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"nastavnik {words}: exit code {done.returncode}\n{done.stderr}")
    summary = done.stderr[max(0, done.stderr.find("\nvalidation: ")) :] if words.startswith("fit") else ""
    return (done.stdout or summary).strip("\n")


def picture(report: Path, sections: tuple[str, ...], out: Path) -> None:
    """Some sections of a report as Chromium draws them."""
    style = f"<style>main section:not({', '.join('#' + s for s in sections)}), nav {{ display: none }}</style>"
    page = report.with_name("some.html")
    page.write_text(report.read_text(encoding="utf-8").replace("</head>", f"{style}</head>"), encoding="utf-8")
    shot = report.with_name("shot.png")
    browser = next((b for b in ("chromium", "google-chrome", "chrome") if shutil.which(b)), None)
    if browser is None:
        raise SystemExit("a Chromium is needed for the pictures: apt install chromium")
    subprocess.run(
        [browser, "--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1000,3000",
         "--virtual-time-budget=20000", f"--screenshot={shot}", page.as_uri()],
        check=True, capture_output=True,
    )  # fmt: skip
    image = Image.open(shot).convert("RGB")
    pixels = np.asarray(image)
    used = np.flatnonzero((pixels != pixels[-1, 0]).any((1, 2)))  # down to the last row that is not ground
    image = image.crop((0, 0, image.width, min(image.height, int(used[-1]) + 20, 1400)))
    buffer = io.BytesIO()
    image.quantize(64).save(buffer, "PNG", optimize=True)
    out.write_bytes(buffer.getvalue())


def shown(text: str, lines: int) -> str:
    """The first lines of what was printed, without what tells how far a job is."""
    kept = [line.rstrip() for line in text.splitlines() if line.strip()]
    more = f"\n… ({len(kept) - lines} more lines)" if len(kept) > lines else ""
    return "\n".join(kept[:lines]) + more


def made(name: str) -> str:
    """One case's part of the page."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        case.make(place)
        out = f"runs/{name}"
        keep = f" --keep {case.keep}" if case.keep else ""
        commands = {
            f"fit {case.fit} --out {out}": 14,
            f"predict {out} {case.new}{keep} --out predictions.csv": 0,
            f"check {out} --try all --budget 2m": 16,
            f"compare {out} --criteria validation,bic,description_length": 8,
        }
        said = {}
        for words in commands:
            said[words] = run(words, place)
            print(f"nastavnik {words}\n{said[words]}", flush=True)
        predicted = (place / "predictions.csv").read_text(encoding="utf-8").splitlines()[:4]
        picture(place / out / "report.html", case.shows, DOCS / f"{name}.png")
    blocks = []
    for words, lines in commands.items():
        told = shown(said[words], lines) if lines else "\n".join(predicted)
        blocks.append(f"```\n$ nastavnik {words}\n{re.sub(re.escape(folder), '', told)}\n```")
    picture_line = f"![{case.title.lower()}: a part of the report]({name}.png)"
    return "\n\n".join([f"## {case.title}", case.tells, *blocks, picture_line])


def main() -> None:
    """Make what was asked for anew, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    known = json.loads(PARTS.read_text(encoding="utf-8")) if PARTS.exists() else {}
    asked = parser.parse_args().cases or list(CASES)
    if unknown := set(asked) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    for name in asked:
        known[name] = made(name)
        PARTS.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    intro = (
        "# Six kinds of data, the same four commands\n\nFrom raw files to a report, predictions for new files, a check "
        "whose advice is tried, and what other criteria\nwould have chosen; as they ran on "
        f"{CORES} core{'s' * (CORES != 1)}, by `benchmarks/gallery.py`, which wrote this page."
    )
    page = "\n\n".join([intro, *[known[name] for name in CASES if name in known]])
    (DOCS / "gallery.md").write_text(page + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
