"""Pixels of one picture, whatever it comes as, and a key by which near copies are found."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np

from nastavnik.errors import UserError

_MOST_PIXELS = 60_000_000  # of one picture, before it is made smaller
_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # none that another program is run for
_ORIENTATION = 0x0112  # EXIF's name for it
_CONTRAST = 8.0  # deviation of the squares' brightness below which nothing is told
_NEAR = 8  # squares a side of the small picture by which near copies are found


def as_pixels(array: Any) -> np.ndarray | None:
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


def opened(content: Any) -> Any:
    """A PIL image, its pixels not read yet.

    Raises:
        UserError: the bytes are no picture, or it is far too large.
    """
    from PIL import Image as Pictures
    from PIL import UnidentifiedImageError

    if not isinstance(content, bytes):
        return content
    try:
        image = Pictures.open(io.BytesIO(content), formats=_FORMATS)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        what = "is empty" if not content else "is no picture that can be read"
        raise UserError(f"it {what}; mend it, or leave that row out") from error
    except Pictures.DecompressionBombError as error:
        raise UserError(f"it is far too large ({error}); make it smaller") from error
    if image.width * image.height > _MOST_PIXELS:
        most = f"{_MOST_PIXELS // 1_000_000} million pixels"
        raise UserError(f"it is far too large ({image.width}×{image.height}, more than {most}); make it smaller")
    return image


def channels_of(image: Any) -> int:
    """How many channels a PIL image's pixels have: grey, colour, colour with transparency."""
    if image.mode in ("1", "L", "I", "I;16", "I;16B", "F"):
        return 1
    return 4 if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info else 3


def is_deep(image: Any) -> bool:
    """Whether a PIL image has more than 8 bits a pixel."""
    return bool(image.mode.startswith(("I", "F")))


def depth_of(values: list[np.ndarray]) -> tuple[float, float]:
    """(darkest, brightest) that pictures of more than 8 bits are brought to bytes by, all alike: the full range of the
    fewest bits that hold them, or of real and negative values the range itself."""
    low, high = (float(f([f(v) for v in values])) for f in (np.min, np.max))
    if low < 0 or values[0].dtype.kind == "f":
        return low, max(high, low + 1e-9)
    return 0.0, next((top for top in (255.0, 1023.0, 4095.0, 16383.0, 65535.0) if high <= top), high)


def pixels_of(
    content: Any, channels: int, size: tuple[int, int], depth: tuple[float, float] = (0.0, 65535.0)
) -> tuple[np.ndarray, tuple[int, int, int], list[str]]:
    """Pixels uint8 [height, width, channels] of this size, what the picture was, and what was odd about it.

    ``depth``: see ``depth_of``.

    Raises:
        UserError: it is no whole picture.
    """
    from PIL import Image as Pictures
    from PIL import ImageOps

    odd: list[str] = []
    if isinstance(content, bytes) or hasattr(content, "getbands"):
        image = opened(content)
        was = (channels_of(image), image.height, image.width)
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
        if is_deep(image):
            odd.append(f"of more than 8 bits a pixel: {depth[0]:g} to {depth[1]:g} is brought to 0 to 255")
            image = Pictures.fromarray(_to_bytes(np.asarray(image), depth))
        if image.mode == "CMYK":
            odd.append("in CMYK: turned into RGB")
        if image.mode == "P":  # a palette is of colours
            image = image.convert("RGBA" if channels == 4 else "RGB")
        image = image if image.mode == _CHANNELS[channels] else image.convert(_CHANNELS[channels])
    else:
        own = as_pixels(content)
        if own is None:
            raise UserError(
                "it is no array of pixels, [height, width] or [height, width, 1, 3 or 4] of 0 to 255; for other "
                "numbers say --kind COLUMN=array"
            )
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


def _to_bytes(values: np.ndarray, depth: tuple[float, float]) -> np.ndarray:
    """Grey values of many bits, or real ones, as 8 bits."""
    shares = (np.nan_to_num(values.astype(np.float64)) - depth[0]) / (depth[1] - depth[0])
    return np.clip(255 * shares, 0, 255).round().astype(np.uint8)


def near_keys(pieces: Iterable[np.ndarray]) -> np.ndarray:
    """A number for each picture [n], given some at a time, that near copies share (brighter, resized, compressed anew):
    which of 8 × 8 squares are brighter than the mean; 0 for pictures with hardly any contrast."""
    found = [np.zeros(0, dtype=np.uint64)]
    for piece in pieces:
        small = min(piece.shape[1:3]) < _NEAR
        found.append(np.zeros(len(piece), dtype=np.uint64) if small else _near(piece))
    return np.concatenate(found)


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
