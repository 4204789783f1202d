"""What a resumed run needs, written after each bracket of the search."""

from __future__ import annotations

from nastavnik.errors import UserError
from nastavnik.files import read_json, write_json, write_tensors
from nastavnik.run_folder import RunFolder
from nastavnik.selection import Search
from nastavnik.trace import Trace


def save_checkpoint(search: Search, folder: RunFolder) -> None:
    """Weights and trace first, then the small file that names them: a kill between the two loses only the bracket."""
    if folder.path is None:
        return
    record, tensors = search.to_record()
    place = folder.path / "checkpoint"
    search.trace.flush(folder.path / "trace")
    write_tensors(place / f"pool-{search.generation}.safetensors", tensors)
    write_json(place / "search.json", {**record, "trace_parts": len(list((folder.path / "trace").glob("part-*")))})
    for old in place.glob("pool-*.safetensors"):
        if old.name != f"pool-{search.generation}.safetensors":
            old.unlink(missing_ok=True)


def read_trace(folder: RunFolder, resumed: bool) -> Trace:
    """Empty, or what the checkpoint knows of."""
    if folder.path is None:
        return Trace()
    parts = int(read_json(folder.path / "checkpoint" / "search.json")["trace_parts"]) if resumed else 0
    return Trace.read(folder.path / "trace", parts)


def restore(search: Search, folder: RunFolder) -> None:
    """Take up the search where the last checkpoint was written.

    Raises:
        UserError: the checkpoint cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    assert folder.path is not None
    record = read_json(folder.path / "checkpoint" / "search.json")
    pool = folder.path / "checkpoint" / f"pool-{record['generation']}.safetensors"
    try:
        tensors = load_file(pool)
    except (OSError, SafetensorError) as error:
        raise UserError(f"the checkpoint {pool} cannot be read ({error}); start anew with --force") from error
    search.restore(record, tensors)
