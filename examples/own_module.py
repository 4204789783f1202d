"""A module of your own searched by the same job: ``python examples/own_module.py``."""

from __future__ import annotations

from torch import nn

import nastavnik


def make(inputs: int, outputs: int) -> nn.Module:
    """Any module that takes [rows, inputs] and gives [rows, outputs]; the rate of nn.Dropout belongs to its shape."""
    return nn.Sequential(nn.Linear(inputs, 64), nn.LayerNorm(64), nn.GELU(), nn.Dropout(0.2), nn.Linear(64, outputs))


def main() -> None:
    """Search learning rate and decay of the module on scikit-learn's digits."""
    run = nastavnik.fit("digits", family=make, networks=6, folds=0)
    accuracy = run.result["test"]["accuracy"]
    print(f"test accuracy {accuracy['value']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f})")
    print(run.networks[["network", "status", "score", "optimizer.learning_rate"]].round(4).to_string(index=False))


if __name__ == "__main__":
    main()
