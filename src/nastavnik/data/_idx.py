"""IDX files, MNIST's format: magic number, sizes, then the values (http://yann.lecun.com/exdb/mnist)."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pandas as pd

from nastavnik.data._arrays import as_cells
from nastavnik.data._split import PART_WORDS
from nastavnik.errors import UserError

_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_PARTS = {**PART_WORDS, "t10k": "test"}


def read_idx(path: Path) -> np.ndarray:
    """One IDX file, gzipped or not.

    Raises:
        UserError: it is no IDX file or is cut short.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zeros, code, dimensions = struct.unpack_from(">HBB", raw)
        sizes = struct.unpack_from(f">{dimensions}I", raw, 4)
        values = np.frombuffer(raw, _TYPES[code], offset=4 + 4 * dimensions)
        if zeros or values.size != np.prod(sizes, dtype=np.int64):
            raise ValueError(f"{values.size} values for sizes {sizes}")
    except (OSError, EOFError, KeyError, ValueError, struct.error) as error:
        raise UserError(f"{path} is no whole IDX file ({error}); fetch it again") from error
    return values.reshape(sizes)


def idx_files(folder: Path) -> list[Path]:
    """The IDX files of a folder, by their names (``train-images-idx3-ubyte.gz`` …)."""
    return sorted(p for p in folder.iterdir() if "-idx" in p.name or ".idx" in p.name)


def read_idx_folder(folder: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """A folder of IDX pictures and labels as the columns ``image`` and ``label``, and each row's part.

    Raises:
        UserError: images without their labels, or numbers of rows that differ.
    """
    images = {p.name.split("-")[0]: p for p in idx_files(folder) if "images" in p.name}
    labels = {p.name.split("-")[0]: p for p in idx_files(folder) if "labels" in p.name}
    if not images or set(images) != set(labels):
        raise UserError(
            f"{folder} needs pairs of IDX files, such as train-images-idx3-ubyte.gz and "
            f"train-labels-idx1-ubyte.gz; found {[p.name for p in idx_files(folder)]}"
        )
    pixels, targets, parts = [], [], []
    for part in sorted(images, key=lambda name: (name != "train", name)):
        x, y = read_idx(images[part]), read_idx(labels[part])
        if len(x) != len(y):
            raise UserError(f"{images[part]} has {len(x)} images but {labels[part].name} {len(y)} labels")
        pixels.append(x)
        targets.append(y)
        parts.append(np.full(len(y), _PARTS.get(part, "train"), dtype=object))
    frame = pd.DataFrame({"image": as_cells([picture for part in pixels for picture in part])})
    frame["label"] = np.concatenate(targets).astype(np.int64)
    return frame, np.concatenate(parts)
