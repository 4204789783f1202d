"""Graves' variational network: how sure is it of each weight, and how many can go? (Graves 2011)

python examples/graves_network.py [--out graves.html]

400 handwritten digits, a network 64-20-10. Its weights get a normal posterior with a prior chosen from them (mean and
variance); then weights are set to zero in the order of λ = exp(-µ² / 2σ²), and, for contrast, of their size.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from nastavnik import evidence
from nastavnik.training.likelihoods import Categorical

SHARES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)


def main() -> None:
    """The bound, and accuracy against the share of weights removed; with ``--out`` a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    inputs, targets = torch.from_numpy(x[order] / 16).float(), torch.from_numpy(y[order])
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 20), nn.Tanh(), nn.Linear(20, 10))
    found = evidence.variational(
        network,
        inputs[:400],
        targets[:400],
        likelihood=Categorical(10),
        optimise=("prior_precision", "prior_mean"),
        steps=3000,
        rate=0.3,
    )
    assert found.posterior is not None
    print(found)
    print(f"prior: mean {found.details['prior_mean'][0]:.4f}, precision {found.prior_precision['all']:.2f}")
    believed = found.posterior.predictive(inputs[400:])
    right = believed.point() == targets[400:].numpy()
    print(f"averaged over weights: test accuracy {right.mean():.3f}, "
          f"nll {believed.neg_log_likelihood(targets[400:].numpy()).mean():.3f}")  # fmt: skip
    mean, _ = found.posterior.moments()
    orders = {
        "by λ": torch.argsort(found.posterior.density_at_zero(), descending=True),
        "by size": torch.argsort(mean.abs()),
    }
    curves = {
        name: [accuracy(network, mean, o, s, inputs[400:], targets[400:]) for s in SHARES] for name, o in orders.items()
    }
    print("removed  " + "  ".join(curves))
    for i, share in enumerate(SHARES):
        print(f"{share:7.0%}  " + "  ".join(f"{curve[i]:.3f}" for curve in curves.values()))
    if asked.out is not None:
        picture(curves, asked.out)
        print(f"picture: {asked.out}")


def accuracy(
    network: nn.Module, mean: torch.Tensor, order: torch.Tensor, share: float, x: torch.Tensor, y: torch.Tensor
) -> float:
    """Test accuracy at the posterior's mean with the first weights of an order set to zero."""
    weights = mean.clone()
    weights[order[: round(share * len(order))]] = 0
    nn.utils.vector_to_parameters(weights.float(), network.parameters())
    with torch.no_grad():
        return float((network(x).argmax(1) == y).float().mean())


def picture(curves: dict[str, list[float]], out: Path) -> None:
    """Accuracy against the share removed."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, curve in curves.items():
        figure.add_scatter(x=SHARES, y=curve, name=name, mode="lines+markers")
    figure.update_layout(
        template="plotly_white", title="weights removed", xaxis_title="share removed", yaxis_title="test accuracy"
    )
    figure.write_html(out, include_plotlyjs=True)


if __name__ == "__main__":
    main()
