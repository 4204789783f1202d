"""predict: what a run's model says of new rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nastavnik.arguments import checked
from nastavnik.data import Held, read_source, write_csv
from nastavnik.errors import UserError, nearest
from nastavnik.files import write_atomically
from nastavnik.jobs._surroundings import a_job
from nastavnik.metrics import LEVEL
from nastavnik.model import Model


@checked(but=("source",))
@a_job()
def predict(
    run: str | Path,
    source: Any,
    *,
    out: str | Path | None = None,
    force: bool = False,
    delimiter: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    passes: int = 0,
    level: float = LEVEL,
    quantiles: Sequence[float] = (),
    keep: Sequence[str] = (),
    raw: bool = False,
) -> pd.DataFrame:
    """Predict a table's rows, in its order.

    Args:
        run: a run's folder.
        source: anything ``fit`` reads.
        out: a ``.csv`` or ``.parquet`` file for the predictions; nothing is written without it.
        force: replace a file that is there.
        delimiter: of a text table, found when not given.
        encoding: of a text table, found when not given.
        header: whether the first row of a text table names its columns, found when not given.
        passes: average so many passes with dropout left on (Monte-Carlo dropout); 0 for none.
        level: the share of the mass between ``low`` and ``high``.
        quantiles: shares, each of which becomes a column ``q<share>``.
        keep: columns of the table to stand before the predictions, such as an identifier.
        raw: write class names that a spreadsheet would run as they are, without an apostrophe before them.

    Returns:
        ``prediction`` and ``p_<class>``, or ``prediction, low, high``.

    Raises:
        UserError: a column is missing, a cell is not of its kind, or a file cannot be read or written.
    """
    if passes < 0:
        raise UserError(f"--passes must be 0 or more, but got {passes}")
    model = Model.load(run)
    path = None if out is None else Path(out)
    if path is not None and path.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"--out {path} must end in .csv or .parquet")
    if path is not None and path.exists() and not force:
        raise UserError(f"--out {path} is already there; choose another, or replace it with --force")
    options: dict[str, Any] = {"delimiter": delimiter, "encoding": encoding}
    numbered = header is None and all(info.name.isdigit() for info in model.columns)
    frame = read_source(source, **options, header=False if numbered else header).frame
    if numbered and len(frame) and [str(cell) for cell in frame.iloc[0]] == [str(name) for name in frame.columns]:
        frame = read_source(source, **options, header=True).frame  # it names its columns by number
    frame = _as_trained(frame, model)
    for name in keep:
        if name not in frame.columns:
            raise UserError(f"--keep names a column {name!r} that is not there{nearest(name, frame.columns)}")
    table = model.predict(frame, passes, level=level, quantiles=quantiles)
    taken = [name for name in keep if name in table.columns]
    if taken:
        raise UserError(f"--keep {taken[0]} has the name of a column of predictions; rename it in the table")
    kept = frame[list(keep)].map(lambda cell: str(cell) if isinstance(cell, Held) else cell)
    table = pd.concat([kept, table], axis=1) if keep else table
    if path is not None:
        if path.suffix.lower() == ".csv":
            write_atomically(path, lambda part: write_csv(table, part, raw=raw))
        else:
            write_atomically(path, lambda part: table.to_parquet(part, index=False))
    return table


def _as_trained(frame: pd.DataFrame, model: Model) -> pd.DataFrame:
    """Pictures of a folder, under the name that the model's only column of pictures has."""
    own = [info.name for info in model.columns if info.kind == "image"]
    if len(own) != 1 or own[0] in frame.columns:
        return frame
    held = [name for name in frame.columns if len(frame) and isinstance(frame[name].iloc[0], Held)]
    return frame.rename(columns={held[0]: own[0]}) if len(held) == 1 else frame
