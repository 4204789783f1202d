"""An LSTM with three bugs that no curve shows, named by three lines of the mentor.

It is to tell three kinds of waves apart and stays at chance. The LSTM takes the batch for time (batch_first left out),
the scheduler, meant for epochs, is stepped with every batch, and the loss ignores class 0 as if it were padding.
"""

import torch
from torch import nn

import nastavnik


class Recurrent(nn.Module):
    """An LSTM and what its last step says."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(1, 32), nn.Linear(32, 3)  # bug 1: batch_first=True is missing

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, T, 1] -> logits [n, 3]."""
        return self.head(self.rnn(x)[0][:, -1])


def waves(n: int = 1200, steps: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    """Three kinds of noisy waves, and which one each is."""
    source = torch.Generator().manual_seed(0)
    kind = torch.randint(0, 3, (n,), generator=source)
    phase = 6.28 * torch.rand(n, 1, generator=source)
    wave = torch.sin(6.28 * torch.tensor([0.08, 0.16, 0.28])[kind][:, None] * torch.arange(steps) + phase)
    return (wave + 0.2 * torch.randn(n, steps, generator=source))[..., None], kind


def main() -> nastavnik.Mentor:
    """Train and print what the mentor says."""
    torch.manual_seed(0)
    x, y = waves()
    model = Recurrent()
    loss_fn = nn.CrossEntropyLoss(ignore_index=0)  # bug 2: 0 is a class here
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.5)
    mentor = nastavnik.Mentor(model, optimizer, loss_fn)
    for step in range(300):
        rows = torch.randint(0, len(x), (32,), generator=torch.Generator().manual_seed(step))
        with mentor.step(x[rows], y[rows]):
            optimizer.zero_grad()
            loss_fn(model(x[rows]), y[rows]).backward()
            optimizer.step()
        scheduler.step()  # bug 3: meant for epochs
    print(mentor)
    return mentor


if __name__ == "__main__":
    main()
