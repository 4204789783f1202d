"""How a person sees one cell of a field: a thumbnail, an excerpt."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import numpy as np

from nastavnik.data import Columns, Field

_WORDS = 30  # of a text
_SIDE = 64  # pixels of a thumbnail's longer side on the page


def shown(columns: Columns, row: int) -> str:
    """The fields of one row as HTML; empty where there are none."""
    return " ".join(_SHOWN[own.sort](own, row) for own in columns.fields.values() if own.sort in _SHOWN)


def _thumbnail(own: Field, row: int) -> str:
    from PIL import Image

    pixels = own.row(row)
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    scale = _SIDE / max(image.size)
    size = f'width="{round(image.width * scale)}" height="{round(image.height * scale)}"'
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img class="thumb" {size} alt="the picture of row {row + 1}" src="data:image/png;base64,{data}">'


def _excerpt(own: Field, row: int) -> str:
    from html import escape

    words = [own.vocabulary[t - 1] for t in own.row(row) if t > 0]
    more = " …" if len(words) > _WORDS else ""
    return f'<span class="excerpt">{escape(" ".join(words[:_WORDS]))}{more}</span>'


_SHOWN: dict[str, Callable[[Field, int], str]] = {"picture": _thumbnail, "tokens": _excerpt}
