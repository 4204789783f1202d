"""Pictures: photographs, drawings, scans, in files, in archives or in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nastavnik.data import Field, Held, Lost, MadeCell, each_read
from nastavnik.errors import UserError
from nastavnik.kinds._cells import Cells
from nastavnik.kinds._kind import Features, Guess, Kind, Wishes
from nastavnik.kinds._pixels import as_pixels, channels_of, depth_of, is_deep, opened, pixels_of
from nastavnik.rooms import room_for, touched

_LOOKED_AT = 256  # pictures whose sizes decide
_UNKNOWN_SIDE = 32  # where no picture could be measured
_MOST_SIDE = 64  # pixels of a side that networks are given, unless more or fewer are asked for


class Image(Kind):
    """A picture: its pixels, all brought to one size."""

    name = "image"
    about = "pictures: paths to files, members of an archive, PIL images, arrays of pixels"

    def recognise(self, cells: Cells, wishes: Wishes) -> Guess | None:
        """Cells that hold files or arrays of pixels."""
        if cells.typed or not cells.present or not isinstance(_first(cells), Held):
            return None
        some = [c for c in cells.values if isinstance(c, Held)]
        some = some[:: max(1, len(some) // _LOOKED_AT)][:_LOOKED_AT]
        if not all(_may_be_pixels(c) for c in cells.values if isinstance(c, MadeCell)):
            return None
        shapes = each_read(lambda i: _shape(some[i]), len(some))
        known = [s for s in shapes if s is not None]
        if not known:
            side = min(_UNKNOWN_SIDE, wishes.picture_size or _UNKNOWN_SIDE)
            return Guess(1.0, "files that should be pictures", {"size": [side, side], "channels": 3, "gaps": False})
        channels = max(s[0] for s in known)
        height, width = _size([s[1:] for s in known], wishes.picture_size or _MOST_SIDE)
        sizes = Counter(s[1:] for s in known)
        same = f"{known[0][1]}×{known[0][2]}" if len(sizes) == 1 else f"{len(sizes)} sizes, brought to {height}×{width}"
        reading = {"size": [height, width], "channels": channels, "gaps": bool(cells.missing.any())}
        deep = [values for values in each_read(lambda i: _deep(some[i]), len(some)) if values is not None]
        if deep:
            reading["depth"] = list(depth_of(deep))
        return Guess(1.0, f"pictures of {same}, {'grey' if channels == 1 else 'colour'}", reading)

    def given(self, cells: Cells, wishes: Wishes) -> Guess:
        """A column of paths is read from where the program was started.

        Raises:
            UserError: no cell is a picture.
        """
        found = self.recognise(_with_files(cells), wishes)
        if found is None:
            raise UserError(f"{cells.name}: --kind image needs paths of pictures, images or arrays of pixels")
        return Guess(1.0, "given", found.record)

    def read(self, cells: Cells, reading: Mapping[str, Any]) -> Features:
        """Pixels uint8 [n, height, width, channels]; a missing picture is black.

        Raises:
            UserError: a picture cannot be read (the row and the file are named).
        """
        cells = _with_files(cells)
        height, width = reading["size"]
        channels, (low, high) = int(reading["channels"]), reading.get("depth", (0.0, 65535.0))
        depth = float(low), float(high)
        values = room_for((len(cells), height, width, channels), np.uint8)
        present = np.flatnonzero(~cells.missing)
        raw = cells.values.to_numpy(dtype=object)
        shapes: list[tuple[int, int, int] | None] = [None] * len(present)
        odd: list[list[str]] = [[] for _ in present]

        def one(i: int) -> None:
            row = int(present[i])
            cell = raw[row]
            if not isinstance(cell, Held):
                raise UserError(f"{cells.name}: row {row + 1} holds {str(cell)[:60]!r}, which is no picture")
            try:
                pixels, shapes[i], odd[i] = pixels_of(cell.load(), channels, (height, width), depth)
            except UserError as error:
                raise UserError(f"{cells.name}: row {row + 1}, {_placed(cell, error)}") from error
            values[row] = pixels
            touched(pixels.nbytes)

        each_read(one, len(present))
        notes = Counter(note for own in odd for note in own)
        field = Field(values, "picture")
        found = Features(fields={cells.name: replace(field, said=_odd(cells, field, shapes, notes))})
        if reading["gaps"]:
            found.numbers[f"{cells.name}.missing"] = cells.missing.astype(np.float64)
        elif cells.missing.any():
            first = int(np.argmax(cells.missing))
            why = "hold no picture, though none lacked it in training"
            found.lost.append(Lost(cells.name, int(cells.missing.sum()), first, "missing", why))
        return found

    def show(self, features: Features, row: int) -> str:
        """Its size and how bright it is."""
        pixels = next(iter(features.fields.values())).row(row)
        return f"{pixels.shape[0]}×{pixels.shape[1]} pixels, {pixels.shape[2]} channels, mean {pixels.mean():.0f}"


def _placed(cell: Held, error: UserError) -> str:
    """The sentence, with the file's name where it does not say it."""
    return str(error) if cell.name in str(error) else f"{cell.name}: {error}"


def _first(cells: Cells) -> Any:
    return cells.values.iloc[int(np.argmin(cells.missing))]


def _with_files(cells: Cells) -> Cells:
    """The same cells, paths in words as files."""
    from pathlib import Path

    from nastavnik.data import FileCell

    if not cells.present or isinstance(_first(cells), Held):
        return cells
    own = cells.values.map(lambda v: FileCell(Path(v).parent, Path(v).name) if isinstance(v, str) and v.strip() else v)
    return Cells(cells.name, own.astype(object), cells.told)


def _deep(cell: Held) -> np.ndarray | None:
    """The values of a picture of more than 8 bits; None of others, and where it is not to be read."""
    try:
        content = cell.load()
        image = opened(content) if isinstance(content, bytes) or hasattr(content, "getbands") else None
        return np.asarray(image) if image is not None and is_deep(image) else None
    except (UserError, OSError, SyntaxError, ValueError):  # told where all are read, with its row
        return None


def _may_be_pixels(cell: MadeCell) -> bool:
    """A PIL image, or an array of the shape and range of pixels."""
    content = cell.load()
    return isinstance(content, bytes) or hasattr(content, "getbands") or as_pixels(content) is not None


def _shape(cell: Held) -> tuple[int, int, int] | None:
    """(channels, height, width) of a picture, by its first bytes; None where it is not to be read."""
    try:
        content = cell.load()
        if isinstance(content, bytes) or hasattr(content, "getbands"):
            image = opened(content)
            return channels_of(image), image.height, image.width
        pixels = as_pixels(content)
        return None if pixels is None else (pixels.shape[2], pixels.shape[0], pixels.shape[1])
    except UserError:  # told where all are read, with its row
        return None


def _size(sizes: list[tuple[int, int]], most: int) -> tuple[int, int]:
    """The common size: that of all if it is one and small, else the median's, brought to the most that is given."""
    height, width = (int(np.median([s[j] for s in sizes])) for j in (0, 1))
    largest = max(height, width)
    if largest <= most:
        return max(height, 2), max(width, 2)
    return tuple(max(2, round(side * most / largest)) for side in (height, width))  # type: ignore[return-value]


def _odd(
    cells: Cells, field: Field, shapes: list[tuple[int, int, int] | None], notes: Counter[str]
) -> tuple[tuple[str, str, str], ...]:
    """What is to be said of a column of pictures."""
    known = [s for s in shapes if s is not None]
    said = [("pictures", "info", f"{cells.name}: {count} pictures are {note}") for note, count in notes.items()]
    channels, sizes = Counter(s[0] for s in known), Counter(s[1:] for s in known)
    if len(channels) > 1:
        words = {1: "grey", 3: "colour", 4: "with transparency"}
        parts = ", ".join(f"{n} {words[c]}" for c, n in channels.most_common())
        said.append(("channels", "info", f"{cells.name}: {parts}; all are taken with {field.shape[2]} channels"))
    if len(sizes) > 1:
        (low, high), size = (min(sizes), max(sizes)), field.shape[:2]
        said.append((
            "sizes", "info",
            f"{cells.name}: {len(sizes)} sizes, from {low[0]}×{low[1]} to {high[0]}×{high[1]}; all are brought to "
            f"{size[0]}×{size[1]}",
        ))  # fmt: skip
    plain = sum(int((piece.min((1, 2, 3)) == piece.max((1, 2, 3))).sum()) for piece in field.pieces())
    plain -= int(cells.missing.sum())
    if plain > 0:
        said.append(("plain pictures", "warning", f"{cells.name}: {plain} pictures are of one colour all over"))
    return tuple(said)
