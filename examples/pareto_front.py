"""How small may it be? Accuracy against parameters on digits: a front, not a sum.

python examples/pareto_front.py [--networks 64] [--out runs/front]

Prints the networks that no other beats in both criteria, and how sure each is to belong there. With ``--out`` the run
is kept, and its report.html has the picture, under "The front".
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nastavnik
from nastavnik.space import Choice, Space

SPACE = Space({"network.width": Choice.of(4, 8, 16, 32, 64, 128), "network.depth": Choice.of(1, 2)})


def main() -> None:
    """A line for each network on the front."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=64)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    run = nastavnik.fit(
        "digits",
        networks=asked.networks,
        folds=0,
        space=SPACE,
        sampler="nsga2",
        pareto=("error", "parameters"),
        settings={"network.family": "mlp"},
        out=asked.out,
    )
    print("parameters  validation accuracy  on the front in")
    for one in sorted(run.result["front"], key=lambda r: r["parameters"]):
        print(f"{one['parameters']:10.0f}  {1 - one['error']:19.3f}  {one['on_front']:.0%} of draws of the rows")


if __name__ == "__main__":
    main()
