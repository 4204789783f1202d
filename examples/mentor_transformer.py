"""A language model with three bugs that no curve shows, named by three lines of the mentor.

A small transformer foretells the next word of made-up sentences. Its loss falls nicely, and is worth nothing: attention
sees the words it is to foretell (no causal mask), dropout is written so that it never ends (F.dropout without
training=self.training), and the feed-forward layers live in a list, so that no optimizer holds them.
"""

import torch
import torch.nn.functional as F
from torch import nn

import nastavnik

WORDS, LENGTH = 20, 16


class LanguageModel(nn.Module):
    """Two blocks of attention and a feed-forward layer each."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, 32), nn.Embedding(LENGTH, 32)
        self.attention = nn.ModuleList(nn.MultiheadAttention(32, 4, batch_first=True) for _ in range(2))
        parts = (nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32)) for _ in range(2))
        self.forward_layers = list(parts)  # bug 1: a list, and no nn.ModuleList
        self.norms, self.head = nn.ModuleList(nn.LayerNorm(32) for _ in range(4)), nn.Linear(32, WORDS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[n, T] -> logits of the next word [n, T, words]."""
        h = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
        for i, (attention, layer) in enumerate(zip(self.attention, self.forward_layers, strict=True)):
            given = self.norms[2 * i](h)
            h = h + F.dropout(attention(given, given, given, need_weights=False)[0], 0.1)  # bugs 2 and 3: no mask,
            h = h + layer(self.norms[2 * i + 1](h))  # and dropout that does not know of model.eval()
        return self.head(h)


def sentences(n: int) -> torch.Tensor:
    """Each word is the one before plus the first one, and sometimes any."""
    source = torch.Generator().manual_seed(0)
    words = torch.randint(0, WORDS, (n, LENGTH + 1), generator=source)
    for t in range(2, LENGTH + 1):
        rule = (words[:, t - 1] + words[:, 0]) % WORDS
        words[:, t] = torch.where(torch.rand(n, generator=source) < 0.8, rule, words[:, t])
    return words


def loss_fn(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every word."""
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten())


def main() -> nastavnik.Mentor:
    """Train and print what the mentor says."""
    torch.manual_seed(0)
    text = sentences(1024)
    model = LanguageModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    mentor = nastavnik.Mentor(model, optimizer, loss_fn)
    for step in range(200):
        batch = text[torch.randint(0, len(text), (32,), generator=torch.Generator().manual_seed(step))]
        x, y = batch[:, :-1], batch[:, 1:]
        with mentor.step(x, y):
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
    print(mentor)
    return mentor


if __name__ == "__main__":
    main()
