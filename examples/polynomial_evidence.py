"""Which degree? Polynomials by their evidence: Laplace's approximation beside the exact value.

python examples/polynomial_evidence.py [--out polynomials.html]

30 points of a cubic with noise 0.3. A linear model's posterior is normal, so Laplace's number must be the exact one;
the mean-field bound and the two-part code stand beside it.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import nn

from nastavnik import evidence
from nastavnik.training.likelihoods import Gaussian

NOISE = 0.3


def powers(x: torch.Tensor, degree: int) -> torch.Tensor:
    """[n] -> [n, degree + 1]."""
    return torch.stack([x**i for i in range(degree + 1)], dim=-1)


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """x uniform on -1…1; y = 0.5 - 1.5 x + 2 x³ + noise."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(30, generator=generator, dtype=torch.float64) * 2 - 1
    noise = torch.randn(30, generator=generator, dtype=torch.float64)
    return x, 0.5 - 1.5 * x + 2 * x**3 + NOISE * noise


def main() -> None:
    """A line for each degree; with ``--out`` a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    x, y = data()
    rows = []
    print("degree   exact nats  Laplace  mean field  two-part code, bits")
    for degree in range(9):
        design = powers(x, degree)
        truth = evidence.linear_regression(design, y, noise=NOISE, prior_precision=1.0)
        network = nn.Linear(degree + 1, 1, bias=False).double()
        network.weight.data = truth.mean[None].clone()
        likelihood = Gaussian(noise=NOISE)
        laplace = evidence.laplace(network, design, y, likelihood=likelihood)
        bound = evidence.variational(network, design, y, likelihood=likelihood, steps=100)
        code = evidence.description_length(network, design, y, likelihood=likelihood)
        rows.append((degree, truth, laplace, bound, code))
        numbers = (
            f"{truth.log_evidence:10.3f} {laplace.log_evidence:10.3f} {bound.log_evidence:10.3f} {code.bits:10.1f}"
        )
        print(f"{degree:6d} {numbers}")
    best = max(rows, key=lambda row: row[1].log_evidence)
    print(f"the evidence takes degree {best[0]}")
    if asked.out is not None:
        picture(rows, best, x, y, asked.out)
        print(f"picture: {asked.out}")


def picture(rows: list, best: tuple, x: torch.Tensor, y: torch.Tensor, out: Path) -> None:
    """Evidence by degree, and the chosen curve with what is believed of new points."""
    from plotly.subplots import make_subplots

    figure = make_subplots(
        1, 2, subplot_titles=("log evidence by degree, nats", f"degree {best[0]}, 95 % of new points")
    )
    degrees = [row[0] for row in rows]
    exact, laplace, bound = ([row[i].log_evidence for row in rows] for i in (1, 2, 3))
    figure.add_scatter(x=degrees, y=exact, name="exact", line={"width": 8}, opacity=0.4)
    figure.add_scatter(x=degrees, y=laplace, name="Laplace", mode="lines+markers")
    figure.add_scatter(x=degrees, y=bound, name="mean-field bound", line={"dash": "dash"})
    code = [-row[4].bits * math.log(2) for row in rows]
    figure.add_scatter(x=degrees, y=code, name="two-part code", line={"dash": "dot"})
    line = torch.linspace(-1.3, 1.3, 100, dtype=torch.float64)
    predictive = best[2].posterior.predictive(powers(line, best[0]))
    low, high = predictive.interval(0.95)
    at = {"row": 1, "col": 2}
    figure.add_scatter(x=line, y=high, line={"width": 0}, showlegend=False, **at)
    figure.add_scatter(x=line, y=low, fill="tonexty", line={"width": 0}, name="95 %", **at)
    figure.add_scatter(x=line, y=predictive.point(), name="mean", **at)
    figure.add_scatter(x=x, y=y, mode="markers", name="data", **at)
    figure.update_layout(template="plotly_white", height=450)
    figure.write_html(out, include_plotlyjs=True)


if __name__ == "__main__":
    main()
