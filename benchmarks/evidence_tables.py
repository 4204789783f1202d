"""The rows of docs/evidence.md's tables, from benchmarks/results; a test holds the page against them.

python benchmarks/evidence_tables.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def rows_of(name: str) -> list[dict[str, Any]]:
    """One file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text())["rows"]


def short(v: float) -> str:
    """Two decimals, or powers of ten."""
    return f"{v:.1e}" if abs(v) < 1e-3 else f"{v:.2f}"


def linear(r: dict[str, Any]) -> str:
    """Against the exact evidence."""
    gaps = (
        f"{short(r['median_gap'])} | {short(r['largest_gap'])} | {r['within_half_a_nat']} | {short(r['mean_regret'])}"
    )
    return f"| {r['road']} | {gaps} | {1e3 * r['seconds_a_model']:.1f} |"


def hidden(r: dict[str, Any]) -> str:
    """Against long Hamiltonian Monte Carlo."""
    gap = "" if r["against_integration"] is None else f"{r['against_integration']:+.1f}"
    if r["road"].startswith("hmc"):
        gap = f"{r['log_evidence']:.1f} ± {r['error']:.2f} itself"
    if "mean_off" not in r:
        said = (r["problem_said"] or "").split(";")[0]
        return f"| {r['problem']} | {r['road']} | no number: {said} | | | | {gap} | {r['seconds']:.2g} |"
    coverage = "" if r["coverage"] is None else format(r["coverage"], ".2f")
    numbers = f"{r['mean_off']:.2f} | {r['deviation_ratio']:.2f} | {r['test_nll']:.3f} | {coverage}"
    return f"| {r['problem']} | {r['road']} | {numbers} | {gap} | {r['seconds']:.2g} |"


def speed(r: dict[str, Any]) -> str:
    """Beside laplace-torch."""
    ratio = f"{r['ratio']:.1f} ({min(r['ratios']):.1f} to {max(r['ratios']):.1f})"
    return f"| {r['structure']} | {ratio} | {r['value']:.2f} | {r['peer_value']:.2f} |"


def uci(r: dict[str, Any]) -> str:
    """Beside the published columns."""
    a, b, p = r["log_likelihood"], r["rmse"], r["published"]
    own = f"{a['mean']:.3f} ± {a['error']:.3f} | {a['grid']:.3f} | {a['difference']:+.3f} ± {a['difference_error']:.3f}"
    others = " | ".join(f"{p[name][0]:.2f}" for name in ("PBP", "MC dropout", "deep ensembles"))
    errors = f"{b['mean']:.4g} ± {b['error']:.2g} | {b['grid']:.4g} | {r['coverage']:.3f}"
    return f"| {r['set']} | {own} | {others} | {errors} |"


def stopping(r: dict[str, Any]) -> str:
    """Against validation stopping."""
    steps = f"{r['median_step']:.0f} | {r['median_step_by_validation']:.0f}"
    gap = f"{r['difference']:+.3f} ± {r['half_width']:.3f}"
    return f"| {r['task']} | {r['arm']} | {r['test_nll']:.3f} | {r['by_validation']:.3f} | {gap} | {steps} |"


TABLES = {
    "evidence-linear": linear,
    "evidence-hidden": hidden,
    "evidence-speed": speed,
    "uci": uci,
    "evidence-stopping": stopping,
}


def main() -> None:
    """Print them all."""
    for name, line in TABLES.items():
        print("\n".join([f"<!-- {name} -->", *(line(row) for row in rows_of(name)), ""]))


if __name__ == "__main__":
    main()
