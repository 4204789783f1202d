"""Twenty healthy trainings of every architecture, none of which may be accused of an error.

Written down before they were first run. ``WELL`` holds them by name: functions ``(watch)`` as in mentor_reports.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mentor_rows import Last, Tokens, Words, bag, characters, crosses, digits, masks, parts, text_loss, train

Watch = Callable[..., Any]
WELL: dict[str, tuple[str, Callable[[Watch], None]]] = {}


def well(architecture: str) -> Callable[[Callable[[Watch], None]], Callable[[Watch], None]]:
    """Register a training by its function's name."""

    def register(run: Callable[[Watch], None]) -> Callable[[Watch], None]:
        WELL[run.__name__] = (architecture, run)
        return run

    return register


@well("recurrent")
def packed_sequences(watch: Watch) -> None:
    x, y, xv, yv = bag(T=30)
    for t in (x, xv):
        cut = torch.randint(10, 31, (len(t), 1), generator=torch.Generator().manual_seed(0))
        t[torch.arange(30)[None] >= cut] = 0
    rows = (x, y, xv, yv)

    class Packed(Words):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            lengths = (tokens != 0).sum(1).clamp(min=1).cpu()
            packed = nn.utils.rnn.pack_padded_sequence(self.embedding(tokens), lengths, True, enforce_sorted=False)
            return self.head(self.rnn(packed)[1][0][-1])

    train(watch, Packed(50, 2), nn.CrossEntropyLoss(), rows, rate=3e-3, epochs=12)


@well("recurrent")
def time_is_first(watch: Watch) -> None:
    x, y, xv, yv, V = characters(T=24, n=800)

    class TimeFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.rnn, self.head = nn.Embedding(V, 24), nn.LSTM(24, 48), nn.Linear(48, V)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(self.rnn(self.embedding(tokens))[0])

    net = TimeFirst()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    mentor = watch(net, optimizer, text_loss, (x[:32].T, y[:32].T), (xv[:32].T, yv[:32].T))
    for i in range(250):
        some = torch.randint(0, len(x), (32,), generator=torch.Generator().manual_seed(i))
        with mentor.step(x[some].T, y[some].T):
            optimizer.zero_grad()
            text_loss(net(x[some].T), y[some].T).backward()
            optimizer.step()


@well("recurrent")
def forecasts_a_series(watch: Watch) -> None:
    t = torch.arange(1500).float()
    s = torch.sin(t * 0.2) + 0.5 * torch.sin(t * 0.063)
    s = (s + 0.1 * torch.randn(1500, generator=torch.Generator().manual_seed(0))) / s.std()
    w = s.unfold(0, 25, 1)
    rows = (w[:1100, :24, None], w[:1100, 24:], w[1150:, :24, None], w[1150:, 24:])
    train(watch, Last(1, 32, 1), nn.HuberLoss(), rows, rate=3e-3, epochs=10)


@well("transformer")
def tied_language_model(watch: Watch) -> None:
    x, y, xv, yv, V = characters(T=24, n=800)
    net = Tokens(V, V, T=24, causal="right", every_step=True)
    net.head = nn.Linear(32, V, bias=False)
    net.head.weight = net.embedding.weight
    nn.init.normal_(net.embedding.weight, std=0.1)
    train(watch, net, text_loss, (x, y, xv, yv), rate=3e-3, epochs=6)


@well("transformer")
def masked_words(watch: Watch) -> None:
    x, _, xv, _, V = characters(T=24, n=800)
    rows = []
    for t in (x, xv):
        hidden = torch.rand(t.shape, generator=torch.Generator().manual_seed(0)) < 0.2
        rows += [torch.where(hidden, V, t), torch.where(hidden, t, -100)]
    net = Tokens(V + 1, V, T=24, every_step=True)
    train(watch, net, text_loss, tuple(rows), rate=3e-3, epochs=8)


@well("transformer")
def reverses_a_sequence(watch: Watch) -> None:
    source = torch.randint(2, 12, (1200, 8), generator=torch.Generator().manual_seed(0))
    wanted = source.flip(1)
    given = torch.cat([torch.ones(1200, 1, dtype=torch.long), wanted[:, :-1]], 1)

    class Translator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.places = nn.Embedding(12, 32), nn.Parameter(0.1 * torch.randn(8, 32))
            self.body = nn.Transformer(32, 4, 1, 1, 64, 0.0, batch_first=True)
            self.head = nn.Linear(32, 12)

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            mask = nn.Transformer.generate_square_subsequent_mask(8)
            said = self.body(self.embedding(a) + self.places, self.embedding(b) + self.places, tgt_mask=mask)
            return self.head(said).transpose(1, 2)

    net, loss = Translator(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    mentor = watch(net, optimizer, loss, ((source[:900], given[:900]), wanted[:900]),
                   ((source[900:], given[900:]), wanted[900:]))  # fmt: skip
    for i in range(400):
        some = torch.randint(0, 900, (32,), generator=torch.Generator().manual_seed(i))
        with mentor.step((source[some], given[some]), wanted[some]):
            optimizer.zero_grad()
            loss(net(source[some], given[some]), wanted[some]).backward()
            optimizer.step()


@well("convolutional")
def finds_shapes(watch: Watch) -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                        nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                        nn.Conv2d(16, 1, 1))  # fmt: skip

    def mirrored(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.flip(-1), y.flip(-1)

    train(watch, net, nn.BCEWithLogitsLoss(), masks(), rate=3e-3, epochs=6, augment=mirrored)


@well("convolutional")
def smoothed_and_dropped(watch: Watch) -> None:
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    train(watch, crosses(1, 10, norm=True, dropout=0.3), loss, digits(pictures=True), rate=2e-3, epochs=8)


@well("convolutional")
def noisy_pictures(watch: Watch) -> None:
    def noisy(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + 0.1 * torch.randn_like(x), y

    train(watch, crosses(1, 10), nn.CrossEntropyLoss(), digits(pictures=True), rate=2e-3, epochs=8, augment=noisy)


@well("generative")
def denoising_autoencoder(watch: Watch) -> None:
    x, _, xv, _ = digits()

    def noisy(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (a + 0.2 * torch.randn_like(a)).clamp(0, 1), b

    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 64), nn.ReLU(),
                        nn.Linear(64, 64), nn.Sigmoid())  # fmt: skip
    train(watch, net, nn.BCELoss(), (x, x, xv, xv), rate=3e-3, epochs=15, augment=noisy)


@well("generative")
def wasserstein_game(watch: Watch) -> None:
    G = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    D = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    og, od = (torch.optim.RMSprop(n.parameters(), lr=5e-4) for n in (G, D))

    def critic(said: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return -(said * y).mean()

    mg, md = watch(G, og, lambda o, y: -D(o).mean()), watch(D, od, critic)
    for i in range(900):
        noise = torch.Generator().manual_seed(i)
        real = torch.randn(64, 2, generator=noise) * 0.3 + torch.tensor([0.5, -0.5])
        z = torch.randn(64, 4, generator=noise)
        x, y = torch.cat([real, G(z).detach()]), torch.cat([torch.ones(64, 1), -torch.ones(64, 1)])
        with md.step(x, y):
            od.zero_grad()
            critic(D(x), y).backward()
            od.step()
        with torch.no_grad():
            for p in D.parameters():
                p.clamp_(-0.1, 0.1)
        if i % 3 == 0:
            with mg.step(z, torch.ones(64, 1)):
                og.zero_grad()
                (-D(G(z)).mean()).backward()
                og.step()


@well("metric learning")
def triplets(watch: Watch) -> None:
    x, y, _, _ = digits()
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))

    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = net

        def forward(self, a: torch.Tensor, p: torch.Tensor, n: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return self.body(a), self.body(p), self.body(n)

    model, loss = Three(), nn.TripletMarginLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    mentor = watch(model, optimizer, lambda said, _: loss(*said))
    rng = np.random.default_rng(0)
    by_class = [torch.nonzero(y == c)[:, 0] for c in range(10)]
    for _ in range(400):
        c = rng.integers(0, 10, 32)
        other = (c + rng.integers(1, 10, 32)) % 10
        a, p, n = (torch.stack([x[rng.choice(by_class[k])] for k in which]) for which in (c, c, other))
        with mentor.step((a, p, n)):
            optimizer.zero_grad()
            loss(*model(a, p, n)).backward()
            optimizer.step()


@well("several tasks")
def two_heads(watch: Watch) -> None:
    x, y, xv, yv = digits()
    ink = x.sum(1, keepdim=True)
    scaled = [(t.sum(1, keepdim=True) - ink.mean()) / ink.std() for t in (x, xv)]

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 10), nn.Linear(64, 1)

        def forward(self, t: torch.Tensor) -> dict[str, torch.Tensor]:
            h = torch.relu(self.body(t))
            return {"digit": self.a(h), "ink": self.b(h)}

    def loss(said: Any, wanted: Any) -> torch.Tensor:
        return F.cross_entropy(said["digit"], wanted["digit"]) + F.mse_loss(said["ink"], wanted["ink"])

    net = Heads()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    mentor = watch(net, optimizer, loss, (x, {"digit": y, "ink": scaled[0]}), (xv, {"digit": yv, "ink": scaled[1]}))
    for i in range(500):
        some = torch.randint(0, len(x), (32,), generator=torch.Generator().manual_seed(i))
        wanted = {"digit": y[some], "ink": scaled[0][some]}
        with mentor.step(x[some], wanted):
            optimizer.zero_grad()
            loss(net(x[some]), wanted).backward()
            optimizer.step()


def _surface(n: int = 1600) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 6))
    y = np.sin(x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + 0.2 * rng.normal(size=n)
    return parts(x, ((y - y.mean()) / y.std())[:, None])


@well("perceptron")
def a_quantile(watch: Watch) -> None:
    def loss(said: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.maximum(0.9 * (y - said), -0.1 * (y - said)).mean()

    net = nn.Sequential(nn.Linear(6, 64), nn.SiLU(), nn.Linear(64, 1))
    train(watch, net, loss, _surface(), rate=3e-3, epochs=20)


@well("perceptron")
def four_batches_a_step(watch: Watch) -> None:
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    train(watch, net, nn.CrossEntropyLoss(), digits(), rate=5e-3, epochs=20, batch=16, parts_a_step=4)


@well("perceptron")
def warm_up_and_cosine(watch: Watch) -> None:
    def schedule(optimizer: Any) -> Any:
        up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, 1.0, 50)
        down = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 590)
        return torch.optim.lr_scheduler.SequentialLR(optimizer, [up, down], [50])

    net = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 10))
    rows = digits()
    train(watch, net, nn.CrossEntropyLoss(), rows, rate=3e-3, epochs=15, optimizer=torch.optim.AdamW,
          schedule=schedule, clip=1.0)  # fmt: skip


@well("perceptron")
def a_teacher_that_follows(watch: Watch) -> None:
    x, y, xv, yv = digits()
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
    teacher = copy.deepcopy(net).requires_grad_(False).eval()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)

    def loss(said: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(said, wanted)

    mentor = watch(net, optimizer, loss, (x, y), (xv, yv))
    for i in range(500):
        some = torch.randint(0, len(x), (32,), generator=torch.Generator().manual_seed(i))
        with mentor.step(x[some], y[some]):
            said = net(x[some])
            agree = F.mse_loss(said.softmax(1), teacher(x[some]).softmax(1))
            optimizer.zero_grad()
            (loss(said, y[some]) + agree).backward()
            optimizer.step()
        with torch.no_grad():
            for p, q in zip(teacher.parameters(), net.parameters(), strict=True):
                p.lerp_(q, 0.05)


@well("perceptron")
def predictions_that_vary(watch: Watch) -> None:
    class Varying(nn.Module):  # Monte Carlo dropout, on purpose
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 128), nn.Linear(128, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(F.dropout(torch.relu(self.a(x)), 0.1, training=True))

    train(watch, Varying(), nn.MSELoss(), _surface(), rate=3e-3, epochs=20)


@well("sets")
def sums_over_a_set(watch: Watch) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1600, 10, 3))
    y = (np.abs(x[:, :, 0]).sum(1) > 8).astype(int)

    class DeepSet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.each = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
            self.head = nn.Linear(32, 2)

        def forward(self, t: torch.Tensor) -> torch.Tensor:
            return self.head(self.each(t).mean(1))

    train(watch, DeepSet(), nn.CrossEntropyLoss(), parts(x, y), rate=3e-3, epochs=20)


@well("graphs")
def classes_of_nodes(watch: Watch) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    near = rng.random((300, 300)) < np.where(y[:, None] == y[None], 0.05, 0.005)
    near = np.triu(near, 1)
    linked = near + near.T + np.eye(300)
    A = torch.tensor(linked / linked.sum(1, keepdims=True), dtype=torch.float32)
    x = torch.tensor(np.eye(3)[y] + rng.normal(size=(300, 3)), dtype=torch.float32)
    wanted = torch.tensor(y)

    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 16), nn.Linear(16, 3)

        def forward(self, t: torch.Tensor) -> torch.Tensor:
            return A @ self.b(torch.relu(A @ self.a(t)))

    net, loss = Graph(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    mentor = watch(net, optimizer, loss)
    for _ in range(200):
        with mentor.step(x, wanted):
            optimizer.zero_grad()
            loss(net(x), wanted).backward()
            optimizer.step()
