"""What each JSON file of ours holds, and how older versions of it are read; checked whenever one is read."""

from __future__ import annotations

from typing import Any

from nastavnik.files.records import (
    Kind,
    anything,
    listing,
    mapping,
    maybe,
    number,
    one_of,
    recipe,
    record,
    row,
    setting,
    text,
    whole,
)

__all__ = ["FINDINGS", "HISTORY", "MODEL", "POPULATION", "RESULT", "RUN", "SEARCH"]

_STATUS = one_of("running", "interrupted", "failed", "finished")
_SHA256 = text
_TASK = record(
    {"kind": text, "target": text},  # kinds of one's own too
    {"classes": listing(text, 2), "targets": listing(mapping(anything), 2), "widths": listing(whole(1))},
)
_SCORES = mapping(anything)


def _unhashed(old: dict[str, Any]) -> dict[str, Any]:
    """A model or a population of the first version, whose tensors had no hash."""
    return {**old, "tensors_sha256": None}


def _unhashed_search(old: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of the first version, which knew how many parts its trace had, and of no hash."""
    parts = old.get("trace_parts")
    count = parts if isinstance(parts, int) and 0 <= parts < 100_000 else 0
    return {**_unhashed(old), "trace_parts": [[f"part-{i:05d}.parquet", None] for i in range(count)]}


RUN = Kind(
    "run.json",
    record(
        {"asked": mapping(anything), "status": _STATUS},
        {
            "source": record({}, {"sha256": maybe(text)}),
            "threads": maybe(whole(1)),
            "test_touches": whole(0),
            "files": mapping(_SHA256),
            "versions": mapping(text),
            "command": listing(text),
        },
    ),
    sealed=True,
)

RESULT = Kind(
    "result.json",
    record(
        {
            "task": _TASK,
            "seed": whole(0),
            "chosen": record(
                {"deliver": text, "networks": listing(whole(0), 1), "recipe": recipe}, {"recipes": listing(recipe, 1)}
            ),
            "validation": _SCORES,
            "test": maybe(_SCORES),
            "test_touches": whole(0),
            "cost": mapping(number()),
        },
        {"targets": mapping(mapping(anything))},
    ),
)

MODEL = Kind(
    "model.json",
    record(
        {
            "tensors_sha256": maybe(_SHA256),
            "task": _TASK,
            "columns": listing(record({"name": text, "kind": text})),
            "preparation": record(
                {
                    "method": listing(text),
                    "indicators": listing(whole(0)),
                    "number_names": listing(text),
                    "names": record(
                        {
                            "word_names": listing(text),
                            "levels": listing(listing(text)),
                            "rare": listing(listing(text)),
                            "sizes": listing(whole(1)),
                            "counted": listing(whole(0)),
                            "averaged": listing(whole(0)),
                        }
                    ),
                    "bags": record(
                        {
                            "bag_names": listing(text),
                            "weightings": listing(text),
                            "vocabularies": listing(listing(text)),
                        }
                    ),
                    "fields": record(
                        {
                            "entries": listing(
                                record(
                                    {
                                        "name": text,
                                        "sort": one_of("picture", "tokens", "array"),
                                        "shape": listing(whole(0)),
                                        "levels": whole(0),
                                    }
                                )
                            ),
                            "vocabularies": listing(listing(text)),
                        }
                    ),
                }
            ),
            "target": record({"classes": listing(text)}),
            "signature": record(
                {
                    "numbers": whole(0),
                    "cardinalities": listing(whole(1)),
                    "outputs": whole(1),
                    "distinct": listing(whole(0)),
                    "bags": listing(listing(whole(0), 2)),
                }
            ),
            "members": listing(record({"recipe": recipe, "temperature": number(above=0), "votes": whole(1)}), 1),
        }
    ),
    version=4,  # of older versions columns were read otherwise
    sealed=True,
    sealed_since=2,
)

_CANDIDATE = record(
    {
        "number": whole(0),
        "generation": whole(),
        "keys": mapping(setting),
        "recipe": recipe,
        "numbers": listing(whole(0), 1),
        "status": one_of("finished", "stopped", "dropped", "cut", "diverged"),
        "score": maybe(number()),
        "values": listing(maybe(number()), 1),
        "best_step": whole(0),
        "steps": whole(0),
        "total_steps": whole(0),
        "seconds": number(),
        "parameters": whole(0),
        "rungs": listing(row(number(), maybe(number()))),
    }
)

SEARCH = Kind(
    "search.json",
    record(
        {
            "tensors": text,
            "tensors_sha256": maybe(_SHA256),
            "trace_parts": listing(row(text, maybe(_SHA256))),
            "generation": whole(0),
            "network_steps": whole(0),
            "seconds": number(),
            "ways": mapping(whole(0)),
            "ladder": listing(mapping(anything)),
            "drawing": mapping(anything),
            "history": listing(_CANDIDATE),
            "forecasts": listing(mapping(anything)),
        },
        {
            "losses": listing(whole(0)),
            "errors": listing(whole(0)),
            "bracket": mapping(anything),
            "of": record({"seed": whole(), "split_sha256": _SHA256}),
        },
    ),
    version=2,
    migrations={1: _unhashed_search},
    sealed=True,
    sealed_since=2,
)

POPULATION = Kind(
    "population.json",
    record(
        {"tensors": text, "tensors_sha256": maybe(_SHA256), "recipes": listing(recipe), "numbers": listing(whole())}
    ),
    version=2,
    migrations={1: _unhashed},
    sealed=True,
    sealed_since=2,
)

_VALUE = one_of("inf", "-inf", "nan")


def _measured(value: Any, where: str) -> None:
    """A number, null, or a word for what is no finite number."""
    if value is not None:
        (_VALUE if isinstance(value, str) else number())(value, where)


HISTORY = Kind(
    "history.json",
    record(
        {
            "facts": record({}, {"faults": listing(anything)}),
            "values": listing(row(text, text, listing(whole()), listing(_measured))),
            "rows": mapping(listing(listing(_measured))),
        }
    ),
    sealed=True,
)

FINDINGS = Kind("findings.json", record({"findings": listing(record({"rule": text}))}, {"faults": listing(text)}))
