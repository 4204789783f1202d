"""A loop of your own with three bugs, named by three added lines: ``python examples/mentor_loop.py``."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn

import nastavnik


def main() -> nastavnik.Mentor:
    """Train on digits: probabilities instead of logits, a forgotten zero_grad, a layer the optimizer never got."""
    torch.manual_seed(0)
    numbers, digits = load_digits(return_X_y=True)
    x, y = torch.tensor(numbers, dtype=torch.float32) / 16, torch.tensor(digits)
    first, second = nn.Linear(64, 48), nn.Linear(48, 10)
    model = nn.Sequential(first, nn.ReLU(), second, nn.Softmax(dim=1))  # bug 1: cross-entropy wants logits
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(second.parameters(), lr=0.05)  # bug 2: the first layer never learns

    mentor = nastavnik.Mentor(model, optimizer, loss_fn)  # added
    for _ in range(15):
        for rows in torch.randperm(len(x)).split(64):
            with mentor.step(x[rows], y[rows]):  # added
                loss = loss_fn(model(x[rows]), y[rows])
                loss.backward()  # bug 3: gradients are never zeroed
                optimizer.step()
    print(mentor)  # added
    return mentor


if __name__ == "__main__":
    main()
