"""The rows of docs/search.md's tables, from benchmarks/results; a test holds the page against them.

python benchmarks/search_tables.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"


def rows_of(name: str) -> list[dict[str, Any]]:
    """One file of results."""
    return json.loads((RESULTS / f"search-{name}.json").read_text())["rows"]


def sampler(r: dict[str, Any]) -> str:
    """Calls to Optuna's random sampler's median result, and the best of all calls, with rank tests."""
    calls = f"{r['calls']:g} | {r['random_calls']:g} | {chance(r['p_calls'])}"
    best = f"{r['best']:.4f} | {r['random_best']:.4f} | {chance(r['p_best'])}"
    return f"| {r['problem']} | {r['sampler']} | {calls} | {best} |"


def chance(p: float) -> str:
    """A probability in two digits, tiny ones as powers."""
    return f"{p:.2f}" if p >= 0.01 else f"{p:.0e}"


def overhead(r: dict[str, Any]) -> str:
    """Milliseconds a recipe and their growth."""
    return f"| {r['sampler']} | {r['milliseconds']:.2f} | {r['growth']:.2f} |"


def noise(rows: list[dict[str, Any]]) -> list[str]:
    """In how many searches on noise the winner's interval covers chance."""
    found = []
    for name, chance_level in (("error", 0.5), ("error, chosen by nll", 0.5), ("nll", float(np.log(2)))):
        own = [r[name] for r in rows]
        apparent, corrected = (float(np.mean([o[key] for o in own])) for key in ("apparent", "corrected"))
        with_, without = (sum(o[key] for o in own) for key in ("covered", "covered_without"))
        found.append(
            f"| {name} | {chance_level:.3f} | {apparent:.3f} | {corrected:.3f} | {without} of {len(own)} | "
            f"{with_} of {len(own)} |"
        )
    return found


def halving(rows: list[dict[str, Any]]) -> list[str]:
    """By data set: paired differences of validation and test loss, what was saved, how forecasts held."""
    found = []
    for name in dict.fromkeys(r["data"] for r in rows):
        own = [r for r in rows if r["data"] == name]
        cells = []
        for part in ("validation", "test"):
            gap = np.array([r["halving"][part] - r["none"][part] for r in own])
            half = 2.262 * gap.std(ddof=1) / len(gap) ** 0.5  # Student's t, nine degrees of freedom
            cells.append(f"{gap.mean():+.4f} ± {half:.4f}")
        tried = [float(np.median([r[arm]["candidates"] for r in own])) for arm in ("none", "halving")]
        saved = float(np.median([r["halving"]["saved"] for r in own]))
        scored = sum(r["halving"]["forecasts"]["scored"] for r in own)
        held = sum(r["halving"]["forecasts"]["coverage"] * r["halving"]["forecasts"]["scored"] for r in own) / scored
        wrong, controls = (
            sum(r["halving"]["forecasts"][key] for r in own) for key in ("wrongly_condemned", "condemned_controls")
        )
        losses = f"{tried[0]:.0f} | {tried[1]:.0f} | {cells[0]} | {cells[1]}"
        found.append(f"| {name} | {losses} | {saved:.0%} | {held:.0%} of {scored} | {wrong} of {controls} |")
    return found


def fronts(rows: list[dict[str, Any]]) -> list[str]:
    """Hypervolume and steps as shares of the full run's, median and worst over seeds."""
    found = []
    for arm in ("front-aware", "by score"):
        volume = np.array([r[arm]["hypervolume"] / r["full"]["hypervolume"] for r in rows])
        steps = np.array([r[arm]["steps"] / r["full"]["steps"] for r in rows])
        found.append(f"| {arm} | {np.median(steps):.0%} | {np.median(volume):.1%} | {volume.min():.1%} |")
    return found


def main() -> None:
    """Print every table's rows."""
    lines = [sampler(r) for r in rows_of("samplers")] + [overhead(r) for r in rows_of("overhead")]
    lines += noise(rows_of("noise")) + halving(rows_of("halving")) + fronts(rows_of("front"))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
