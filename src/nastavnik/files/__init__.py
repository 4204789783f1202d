"""Whole files: one alone, those that belong together, and what a record must hold (``records``)."""

from nastavnik.files._files import (
    LEFTOVER,
    clear_leftovers,
    file_hash,
    held,
    plain,
    read_bytes,
    read_json,
    read_tensors,
    temporary_name,
    to_json,
    write_atomically,
    write_json,
    write_tensors,
    write_text,
)
from nastavnik.files._together import COMMIT, RUN_FILES, remove_run, settle, together

__all__ = [
    "COMMIT",
    "LEFTOVER",
    "RUN_FILES",
    "clear_leftovers",
    "file_hash",
    "held",
    "plain",
    "read_bytes",
    "read_json",
    "read_tensors",
    "remove_run",
    "settle",
    "temporary_name",
    "to_json",
    "together",
    "write_atomically",
    "write_json",
    "write_tensors",
    "write_text",
]
