"""When to stop, without validation rows: the evidence under gradient descent (Maclaurin et al. 2015).

python examples/evidence_under_descent.py [--out descent.html]

The problem is fixed here, as the notes give no data: y = sin(3x) + N(0, 0.3²), 30 points x uniform on -1…1, a network
1-20-1 with tanh, prior N(0, 1). 32 restarts descend together; each step costs entropy, and the estimate of the log
evidence turns where the better fit no longer repays it. The test loss of fresh points shows whether that was the place.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nastavnik.selection.evidence import Descent
from nastavnik.training.likelihoods import Gaussian

STEPS = 1500


def points(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x [n, 1] and y [n]."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 1, generator=generator, dtype=torch.float64) * 2 - 1
    return x, torch.sin(3 * x[:, 0]) + 0.3 * torch.randn(count, generator=generator, dtype=torch.float64)


def main() -> None:
    """The estimate's course with the test loss beside it; with ``--out`` a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    x, y = points(30, 0)
    test_x, test_y = points(1000, 1)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1))
    courses = {}
    for name, noisy in (("descent", False), ("Langevin", True)):
        descent = Descent.of(network, x, y, likelihood=Gaussian(noise=0.3), restarts=32, noisy=noisy, seed=0)
        steps, losses = [], []
        for step in range(STEPS):
            if step % 15 == 0:
                descent.look()
                steps.append(step)
                losses.append(test_loss(descent, test_x, test_y))
            descent.step()
        curve = descent.curve(0)
        courses[name] = curve, steps, losses
        turn, least = int(curve.steps[curve.turn]), steps[int(np.argmin(losses))]
        print(
            f"{name}: the estimate turns at step {turn} ({curve.estimate[curve.turn]:.1f} ± "
            f"{curve.error[curve.turn]:.1f} nats); the test loss is least at step {least} "
            f"({min(losses):.3f} nats a row; {losses[steps.index(turn)]:.3f} at the turn, {losses[-1]:.3f} at the end)"
        )
    if asked.out is not None:
        picture(courses, asked.out)
        print(f"picture: {asked.out}")


def test_loss(descent: Descent, x: torch.Tensor, y: torch.Tensor) -> float:
    """Mean test loss of the restarts one by one, nats a row."""
    return float(descent.losses(x, y).mean())


def picture(courses: dict, out: Path) -> None:
    """Evidence above, test loss below."""
    from plotly.subplots import make_subplots

    figure = make_subplots(
        2, 1, shared_xaxes=True, subplot_titles=("estimate of log p(D), nats", "test loss, nats a row")
    )
    for name, (curve, steps, losses) in courses.items():
        figure.add_scatter(x=curve.steps, y=curve.estimate, name=f"{name}: evidence", row=1, col=1)
        figure.add_scatter(x=steps, y=losses, name=f"{name}: test loss", row=2, col=1)
        figure.add_vline(x=float(curve.steps[curve.turn]), line_dash="dot")
    figure.update_yaxes(range=[-150, 0], row=1, col=1)
    figure.update_yaxes(type="log", row=2, col=1)
    figure.update_xaxes(title="step", row=2, col=1)
    figure.update_layout(template="plotly_white", height=700)
    figure.write_html(out, include_plotlyjs=True)


if __name__ == "__main__":
    main()
