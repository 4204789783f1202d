"""Tables in memory, whoever made them, as pandas frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nastavnik.data._files import _arrow_frame
from nastavnik.errors import UserError


def is_frame_like(x: Any) -> bool:
    """Whether it is a table with names: a frame, a record, records, or what speaks Arrow (polars, DuckDB, …)."""
    records = isinstance(x, Sequence) and not isinstance(x, (str, bytes)) and len(x) and isinstance(x[0], Mapping)
    speaks = any(hasattr(x, name) for name in ("__arrow_c_stream__", "__arrow_c_array__", "__dataframe__"))
    return isinstance(x, (pd.DataFrame, pd.Series, Mapping)) or bool(records) or speaks


def as_frame(x: Any) -> pd.DataFrame:
    """A table with names as a frame: a record of cells or a Series is one row, a record of lists their columns.

    Raises:
        UserError: it is none.
    """
    if isinstance(x, pd.DataFrame):
        return x
    if isinstance(x, pd.Series):
        return pd.DataFrame([x.to_dict()])
    if isinstance(x, Mapping):
        lists = [isinstance(v, (list, tuple, np.ndarray, pd.Series)) for v in x.values()]
        if not any(lists):
            return pd.DataFrame([dict(x)])
        if not all(lists) or len({len(v) for v in x.values()}) > 1:
            sizes = ", ".join(
                f"{k}: {len(v) if own else 'one cell'}" for (k, v), own in zip(x.items(), lists, strict=True)
            )
            raise UserError(f"the columns of a record must be equally long, but they are {sizes}")
        return pd.DataFrame({k: list(v) for k, v in x.items()})
    if isinstance(x, Sequence) and not isinstance(x, (str, bytes)) and len(x) and isinstance(x[0], Mapping):
        return pd.DataFrame([dict(row) for row in x])
    if hasattr(x, "__arrow_c_stream__") or hasattr(x, "__arrow_c_array__"):
        import pyarrow as pa

        return _arrow_frame(pa.table(x) if hasattr(x, "__arrow_c_stream__") else pa.table(pa.record_batch(x)))
    if hasattr(x, "__dataframe__"):
        return pd.api.interchange.from_dataframe(x)
    raise UserError(
        "rows must be a DataFrame, a dictionary, a list of dictionaries, a Series or an Arrow table, "
        f"not {type(x).__name__}"
    )


def with_columns(frame: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """The frame with other columns, or new ones, beside its own; ``assign`` fails where one is called self."""
    if not columns:
        return frame
    frame = frame.copy(deep=False)
    for name, cells in columns.items():
        frame[name] = cells
    return frame
