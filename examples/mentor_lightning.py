"""The mentor watches a LightningModule: ``python examples/mentor_lightning.py`` (needs ``nastavnik[lightning]``)."""

from __future__ import annotations

import logging
import warnings

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nastavnik.mentor import Mentor
from nastavnik.mentor.lightning import MentorCallback


class Digits(pl.LightningModule):
    """Three bugs: probabilities instead of logits, weights that begin alike, a layer that does not learn."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 48), nn.Linear(48, 48), nn.Linear(48, 10)
        nn.init.constant_(self.second.weight, 0.02)  # bug 1: all units begin alike
        for p in self.first.parameters():
            p.requires_grad_(False)  # bug 2
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.act(self.second(self.act(self.first(x))))
        return torch.softmax(self.last(h), dim=1)  # bug 3: cross-entropy wants logits

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], lr=1e-3)


def main() -> Mentor:
    """Train for a few epochs, watched."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.manual_seed(0)
    numbers, digits = load_digits(return_X_y=True)
    rows = TensorDataset(torch.tensor(numbers, dtype=torch.float32) / 16, torch.tensor(digits))
    watching = MentorCallback()  # added
    trainer = pl.Trainer(
        max_epochs=10, accelerator="cpu", callbacks=[watching], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice about workers
        trainer.fit(Digits(), DataLoader(rows, batch_size=64, shuffle=True))
    assert watching.mentor is not None
    return watching.mentor


if __name__ == "__main__":
    main()
