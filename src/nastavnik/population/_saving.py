"""A population's files: tensors first, then the record that names them, each whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nastavnik.files import file_hash, read_json, read_tensors, write_json, write_tensors
from nastavnik.schemas import POPULATION
from nastavnik.training.optimizers import Tensors

_RECORD = "population.json"


def write_pair(folder: Path, name: str, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write ``name.safetensors`` (one name, one content), then ``population.json``; older tensors go."""
    tensors_name = f"{name}.safetensors"
    write_tensors(folder / tensors_name, dict(tensors))
    named = {"tensors": tensors_name, "tensors_sha256": file_hash(folder / tensors_name)}
    write_json(folder / _RECORD, {**record, **named}, POPULATION)
    for old in folder.glob("population-*.safetensors"):
        if old.name != tensors_name:
            old.unlink(missing_ok=True)


def read_pair(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What ``write_pair`` wrote.

    Raises:
        UserError: the files are missing or cannot be read.
    """
    record = read_json(folder / _RECORD, POPULATION)
    return record, read_tensors(folder / Path(record["tensors"]).name, record["tensors_sha256"])


def within(tensors: Tensors, start: str) -> Tensors:
    """The tensors under a prefix, without it."""
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
