"""The runs in a folder as records: what was asked, how far they are, and how good they came out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nastavnik.errors import UserError
from nastavnik.files import held
from nastavnik.runs._run_folder import RunFolder
from nastavnik.schemas import RESULT


def runs_in(folder: str | Path) -> list[dict[str, Any]]:
    """What is known of every run that lies in a folder, the latest last; of a run's own folder, that run.

    A record has ``run`` (its folder), ``status`` (running, killed, interrupted, failed, finished, or damaged), when it
    ``started``, its ``source`` and ``target``, the ``family`` that was delivered, the headline ``score`` of
    the test ``part`` (validation, where there is none) with its ``value`` and 95 % interval (``low``, ``high``), the
    trained ``networks`` and the ``seconds`` they took. ``best_baseline`` is the best cheap baseline's value of the
    same score. What is not known is None; ``problem`` says why a damaged run cannot be read.

    Raises:
        UserError: there is no such folder.
    """
    place = Path(folder)
    if not place.is_dir():
        raise UserError(f"there is no folder {place}; name the one that holds your runs")
    try:
        inside = sorted(p for p in place.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise UserError(f"the folder {place} cannot be read: {error.strerror}") from error
    found = [_record(p) for p in [place, *inside] if (p / "run.json").is_file()]
    return sorted(found, key=lambda r: (r["started"] or "", r["run"]))


def _record(path: Path) -> dict[str, Any]:
    names = "status started source target family part score value low high best_baseline networks seconds problem"
    record: dict[str, Any] = {"run": str(path), **dict.fromkeys(names.split())}
    try:
        run = RunFolder.resume(path)
        asked = run.record["asked"]
        record |= {"status": run.status, "started": run.record["started"]}
        record |= {"source": asked.get("source"), "target": asked.get("target")}
        if run.status == "running" and _is_free(path):
            record["status"] = "killed"
        if (path / "result.json").exists():
            record |= _outcome(run.read("result.json", RESULT))
    except (UserError, OSError) as error:
        record |= {"status": "damaged", "problem": str(error)}
    return record


def _is_free(path: Path) -> bool:
    """Whether no process is at work on it."""
    file = os.open(path, os.O_RDONLY) if os.name != "nt" else None
    if file is None:
        return False
    try:
        return held(file)
    finally:
        os.close(file)


def _outcome(result: dict[str, Any]) -> dict[str, Any]:
    from nastavnik.metrics import best_of, headline

    tested = result["test"] is not None
    part = result["test" if tested else "validation"]
    name = headline(part)
    others = {n: b["test"][name]["value"] for n, b in result["baselines"].items() if tested and "test" in b}
    best = best_of(name, others)
    recipe = result["chosen"]["recipe"]
    return {
        "target": result["task"]["target"],
        "family": recipe["network"]["family"],
        "part": "test" if tested else "validation",
        "score": name,
        **{key: part[name][key] for key in ("value", "low", "high")},
        "best_baseline": None if best is None else others[best],
        "networks": result["cost"]["networks"],
        "seconds": result["cost"]["seconds"],
    }
