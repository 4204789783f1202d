"""Where the real data lie, and the tables among them as tables: $NASTAVNIK_DATA, or a folder beside the checkout."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

DATA = Path(os.environ.get("NASTAVNIK_DATA", Path(__file__).resolve().parents[1] / ".." / "shared" / "data"))


def uci_table(archive: zipfile.ZipFile, name: str, prefix: str) -> pd.DataFrame:
    """One set of the archive of UCI regressions as it is written, its columns numbered after a prefix."""
    text = archive.read(f"UCI_Datasets/{name}/data/data.txt")
    return pd.read_csv(io.BytesIO(text), sep=r"\s+", header=None).add_prefix(prefix)


def real_tables(place: Path) -> Iterator[tuple[str, Path, str]]:
    """Names, files and targets of all real tables, those of archives unpacked into a folder."""
    yield "king_county", DATA / "kc_house_data.csv", "price"
    with zipfile.ZipFile(DATA / "uci.zip") as archive:
        for name in sorted({n.split("/")[1] for n in archive.namelist() if n.endswith("/data/data.txt")}):
            target = int(float(archive.read(f"UCI_Datasets/{name}/data/index_target.txt").split()[0]))
            path = place / f"{name}.csv"
            uci_table(archive, name, "x").to_csv(path, index=False)
            yield name, path, f"x{target}"
    with zipfile.ZipFile(DATA / "tables.zip") as archive:
        tasks = json.loads(archive.read("tasks.json"))
        for member in sorted(n for n in archive.namelist() if n.endswith(".csv")):
            path = Path(archive.extract(member, place))
            yield path.stem, path, tasks[path.stem]["target"]
