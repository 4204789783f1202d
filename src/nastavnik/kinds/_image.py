"""Pictures: photographs, drawings, scans, in files, in archives or in memory."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from nastavnik.data import Field, Held, Lost, each_read
from nastavnik.errors import UserError
from nastavnik.kinds._cells import Cells
from nastavnik.kinds._kind import Features, Guess, Kind, Wishes

_LOOKED_AT = 256  # pictures whose sizes decide
_MOST_SIDE = 64  # pixels of a side that networks are given
_MOST_PIXELS = 60_000_000  # of one picture, before it is made smaller
_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}
_ORIENTATION = 0x0112  # EXIF's name for it
_CONTRAST = 8.0  # deviation of the squares' brightness below which nothing is told
_NEAR = 8  # squares a side of the small picture by which near copies are found


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
        if not all(_may_be_pixels(c.load()) for c in some[:3]):
            return None
        shapes = each_read(lambda i: _shape(some[i]), len(some))
        known = [s for s in shapes if s is not None]
        if not known:
            return Guess(1.0, "files that should be pictures", {"size": [32, 32], "channels": 3, "gaps": False})
        channels = max(s[0] for s in known)
        height, width = _size([s[1:] for s in known])
        sizes = Counter(s[1:] for s in known)
        same = f"{known[0][1]}×{known[0][2]}" if len(sizes) == 1 else f"{len(sizes)} sizes, brought to {height}×{width}"
        reading = {"size": [height, width], "channels": channels, "gaps": bool(cells.missing.any())}
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
        channels = int(reading["channels"])
        values = np.zeros((len(cells), height, width, channels), dtype=np.uint8)
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
                pixels, shapes[i], odd[i] = _pixels(cell.load(), channels, (height, width))
            except UserError as error:
                raise UserError(f"{cells.name}: row {row + 1}, {_placed(cell, error)}") from error
            values[row] = pixels

        each_read(one, len(present))
        notes = Counter(note for own in odd for note in own)
        found = Features(fields={cells.name: Field(values, "picture", (), _odd(cells, values, shapes, notes))})
        if reading["gaps"]:
            found.numbers[f"{cells.name}.missing"] = cells.missing.astype(np.float64)
        elif cells.missing.any():
            first = int(np.argmax(cells.missing))
            why = "hold no picture, though none lacked it in training; a black one is"
            found.lost.append(Lost(cells.name, int(cells.missing.sum()), first, "missing", why))
        return found

    def show(self, features: Features, row: int) -> str:
        """Its size and how bright it is."""
        pixels = next(iter(features.fields.values())).values[row]
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


def _may_be_pixels(content: Any) -> bool:
    """Bytes of a file, a PIL image, or an array of the shape and range of pixels."""
    if isinstance(content, bytes) or hasattr(content, "getbands"):
        return True
    return _as_pixels(content) is not None


def _as_pixels(array: Any) -> np.ndarray | None:
    """An array of pixels as uint8 [height, width, channels]; None where it is none."""
    own = np.asarray(array)
    if own.ndim == 2:
        own = own[..., None]
    elif own.ndim == 3 and own.shape[2] not in _CHANNELS and own.shape[0] in _CHANNELS:
        own = own.transpose(1, 2, 0)
    if own.ndim != 3 or own.shape[2] not in _CHANNELS or min(own.shape[:2]) < 2:
        return None
    if own.dtype == np.uint8:
        return own
    if own.dtype.kind not in "fiu" or not np.isfinite(own).all() or own.min() < 0 or own.max() > 255:
        return None
    scaled = own * 255.0 if own.dtype.kind == "f" and own.max() <= 1 else own  # what ToTensor makes of pixels
    whole = np.rint(scaled)
    return whole.astype(np.uint8) if np.abs(scaled - whole).max() < 1e-3 else None


def _shape(cell: Held) -> tuple[int, int, int] | None:
    """(channels, height, width) of a picture, by its first bytes; None where it is not to be read."""
    try:
        content = cell.load()
        if isinstance(content, bytes) or hasattr(content, "getbands"):
            image = _opened(content)
            return _channels(image), image.height, image.width
        pixels = _as_pixels(content)
        return None if pixels is None else (pixels.shape[2], pixels.shape[0], pixels.shape[1])
    except UserError:  # told where all are read, with its row
        return None


def _size(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """The common size: that of all if it is one and small, else the median's, brought to the most that is given."""
    height, width = (int(np.median([s[j] for s in sizes])) for j in (0, 1))
    largest = max(height, width)
    if largest <= _MOST_SIDE:
        return max(height, 2), max(width, 2)
    return tuple(max(2, round(side * _MOST_SIDE / largest)) for side in (height, width))  # type: ignore[return-value]


def _opened(content: Any) -> Any:
    """A PIL image, its pixels not read yet.

    Raises:
        UserError: the bytes are no picture, or it is far too large.
    """
    from PIL import Image as Pictures
    from PIL import UnidentifiedImageError

    if not isinstance(content, bytes):
        return content
    try:
        image = Pictures.open(io.BytesIO(content))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        what = "is empty" if not content else "is no picture that can be read"
        raise UserError(f"it {what}; mend it, or leave that row out") from error
    except Pictures.DecompressionBombError as error:
        raise UserError(f"it is far too large ({error}); make it smaller") from error
    if image.width * image.height > _MOST_PIXELS:
        most = f"{_MOST_PIXELS // 1_000_000} million pixels"
        raise UserError(f"it is far too large ({image.width}×{image.height}, more than {most}); make it smaller")
    return image


def _channels(image: Any) -> int:
    if image.mode in ("1", "L", "I", "I;16", "I;16B", "F"):
        return 1
    return 4 if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info else 3


def _pixels(content: Any, channels: int, size: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int, int], list[str]]:
    """Pixels uint8 [height, width, channels] of this size, what the picture was, and what was odd about it.

    Raises:
        UserError: it is no whole picture.
    """
    from PIL import Image as Pictures
    from PIL import ImageOps

    odd: list[str] = []
    if isinstance(content, bytes) or hasattr(content, "getbands"):
        image = _opened(content)
        was = (_channels(image), image.height, image.width)
        if getattr(image, "n_frames", 1) > 1:
            odd.append("animated: its first frame is taken")
            image.seek(0)
        try:
            image.load()
            turned = ImageOps.exif_transpose(image) if _is_turned(image) else image
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise UserError(f"it is cut short or damaged ({error}); mend it, or leave that row out") from error
        if turned is not image:
            odd.append("turned as its EXIF data says")
        image = turned
        if image.mode.startswith(("I", "F")):
            odd.append("of more than 8 bits a pixel: scaled to 8")
            image = Pictures.fromarray(_to_bytes(np.asarray(image)))
        if image.mode == "CMYK":
            odd.append("in CMYK: turned into RGB")
        if image.mode == "P":  # a palette is of colours
            image = image.convert("RGBA" if channels == 4 else "RGB")
        image = image if image.mode == _CHANNELS[channels] else image.convert(_CHANNELS[channels])
    else:
        own = _as_pixels(content)
        if own is None:
            raise UserError("it is no array of pixels: give [height, width] or [height, width, 1, 3 or 4], 0 to 255")
        was = (own.shape[2], own.shape[0], own.shape[1])
        if was == (channels, *size):
            return own, was, odd
        image = Pictures.fromarray(own[..., 0] if own.shape[2] == 1 else np.ascontiguousarray(own))
        image = image.convert(_CHANNELS[channels])
    if (image.height, image.width) != size:
        image = image.resize((size[1], size[0]), Pictures.Resampling.BILINEAR, reducing_gap=2.0)
    array = np.asarray(image)
    return (array[..., None] if array.ndim == 2 else array), was, odd


def _is_turned(image: Any) -> bool:
    """Whether its EXIF data says that it is to be turned or mirrored."""
    told = "exif" in image.info or image.format in ("TIFF", "PNG", "WEBP")
    return told and image.getexif().get(_ORIENTATION, 1) not in (0, 1)


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """Grey values of 16 bits or real ones as 8 bits."""
    top = 65535.0 if values.dtype.kind in "ui" and values.max(initial=0) > 255 else 255.0
    top = 1.0 if values.dtype.kind == "f" and values.max(initial=0) <= 1 else top
    return np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8)


def _odd(
    cells: Cells, values: np.ndarray, shapes: list[tuple[int, int, int] | None], notes: Counter[str]
) -> tuple[tuple[str, str, str], ...]:
    """What is to be said of a column of pictures."""
    known = [s for s in shapes if s is not None]
    said = [("pictures", "info", f"{cells.name}: {count} pictures are {note}") for note, count in notes.items()]
    channels, sizes = Counter(s[0] for s in known), Counter(s[1:] for s in known)
    if len(channels) > 1:
        words = {1: "grey", 3: "colour", 4: "with transparency"}
        parts = ", ".join(f"{n} {words[c]}" for c, n in channels.most_common())
        said.append(("channels", "info", f"{cells.name}: {parts}; all are taken with {values.shape[3]} channels"))
    if len(sizes) > 1:
        (low, high), size = (min(sizes), max(sizes)), values.shape[1:3]
        said.append((
            "sizes", "info",
            f"{cells.name}: {len(sizes)} sizes, from {low[0]}×{low[1]} to {high[0]}×{high[1]}; all are brought to "
            f"{size[0]}×{size[1]}",
        ))  # fmt: skip
    flat = values.reshape(len(values), -1)
    plain = int((flat.min(1) == flat.max(1)).sum()) - int(cells.missing.sum()) if flat.size else 0
    if plain > 0:
        said.append(("plain pictures", "warning", f"{cells.name}: {plain} pictures are of one colour all over"))
    return tuple(said)


def near_keys(values: np.ndarray) -> np.ndarray:
    """A number for each picture [n] that near copies share (brighter, resized, compressed anew): which of 8 × 8
    squares are brighter than the mean; 0 for pictures with hardly any contrast."""
    if min(values.shape[1:3]) < _NEAR or not len(values):
        return np.zeros(len(values), dtype=np.uint64)
    return np.concatenate([_near(values[start : start + 1000]) for start in range(0, len(values), 1000)])


def _near(values: np.ndarray) -> np.ndarray:
    rows, columns = (np.linspace(0, side, _NEAR + 1).astype(int) for side in values.shape[1:3])
    grey = values[..., 0].astype(np.float32)
    for channel in range(1, values.shape[3]):
        grey += values[..., channel]
    small = np.add.reduceat(np.add.reduceat(grey, rows[:-1], axis=1), columns[:-1], axis=2)
    small /= values.shape[3] * np.diff(rows)[:, None] * np.diff(columns)[None]
    bits = small > small.mean((1, 2), keepdims=True)
    keys = np.packbits(bits.reshape(len(values), -1), axis=1).copy().view(np.uint64)[:, 0]
    return np.where(small.std((1, 2)) > _CONTRAST, keys, np.uint64(0))
