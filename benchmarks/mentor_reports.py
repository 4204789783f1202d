"""Twenty trainings rebuilt small from public reports of what went wrong, each with its mended twin.

Run by mentor_patients.py. A patient is a function ``(fixed, watch)`` that trains: ``fixed`` trains the twin,
``watch(model, optimizer, loss, train, validation)`` makes the mentor. It is registered with its architecture, the
report or documentation it follows, and the names of rules of which one must be among the first three causes. All were
written down before they were first run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mentor_rows import Last, Tokens, Words, characters, crosses, digits, masks, order, text_loss, train, waves

Watch = Callable[..., Any]


@dataclass(frozen=True)
class Patient:
    """One faulty training and its twin."""

    architecture: str
    source: str
    accept: tuple[str, ...]
    train: Callable[[bool, Watch], None]


PATIENTS: dict[str, Patient] = {}


def patient(architecture: str, source: str, *accept: str) -> Callable[[Callable[[bool, Watch], None]], Any]:
    """Register a training by its function's name."""

    def register(run: Callable[[bool, Watch], None]) -> Callable[[bool, Watch], None]:
        PATIENTS[run.__name__] = Patient(architecture, source, accept, run)
        return run

    return register


@patient("recurrent", "yunjey/pytorch-tutorial#196, #89 (batch_first left out)", "mixed_rows")
def batch_taken_for_time(fixed: bool, watch: Watch) -> None:
    rows = waves()
    net = Last(1, 32, 3, batch_first=fixed)
    train(watch, net, nn.CrossEntropyLoss(), rows, rate=5e-3, epochs=10)


@patient("recurrent", "allenai/bilm-tf#220, yikangshen/Ordered-Neurons#13 (the state is never reset)",
         "carried_state", "mixed_rows")  # fmt: skip
def state_of_other_rows(fixed: bool, watch: Watch) -> None:
    class Stateful(Last):
        state: Any = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            fits = self.state is not None and self.state[0].shape[1] == len(x) and not fixed
            said, state = self.rnn(x, self.state if fits else None)
            self.state = tuple(s.detach() for s in state)
            return self.head(said[:, -1])

    train(watch, Stateful(1, 32, 3), nn.CrossEntropyLoss(), waves(T=8), rate=5e-3, epochs=10)


@patient("recurrent", "PyTorch's documentation of pack_padded_sequence (the last step is padding)", "padding_heard")
def reads_the_last_padding(fixed: bool, watch: Watch) -> None:
    x, y, xv, yv = order(T=12)
    lengths = 40
    x, xv = (F.pad(t, (0, lengths - 12)) for t in (x, xv))
    for t in (x, xv):  # rows of different lengths
        cut = torch.randint(8, 13, (len(t), 1), generator=torch.Generator().manual_seed(0))
        t[torch.arange(lengths)[None] >= cut] = 0

    class Net(Words):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            said = self.rnn(self.embedding(tokens))[0]
            if not fixed:
                return self.head(said[:, -1])
            last = (tokens != 0).sum(1) - 1
            return self.head(said[torch.arange(len(tokens)), last])

    train(watch, Net(20, 2), nn.CrossEntropyLoss(), (x, y, xv, yv), rate=3e-3, epochs=12)


@patient("recurrent", "lucidrains/DALLE-pytorch#57, lukas-blecher/LaTeX-OCR#305 (padding counts in the loss)",
         "padding_in_loss", "imbalanced_classes")  # fmt: skip
def padding_is_most_of_the_loss(fixed: bool, watch: Watch) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(1, 20, (1200, 40))
    y = 1 + (x + np.roll(x, 1, 1)) % 4
    ended = np.arange(40)[None] >= rng.integers(4, 9, (1200, 1))
    x[ended], y[ended] = 0, 0
    rows = tuple(torch.tensor(t) for t in (x[:900], y[:900], x[900:], y[900:]))

    def loss(said: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(said.reshape(-1, 5), wanted.reshape(-1), ignore_index=0 if fixed else -100)

    train(watch, Words(20, 5, every_step=True), loss, rows, rate=5e-3, epochs=6)


@patient("recurrent", "Kaufman et al. 2012 (the window holds what it is to foretell)", "leaked_target")
def window_holds_the_target(fixed: bool, watch: Watch) -> None:
    t = torch.arange(1300).float()
    generator = torch.Generator().manual_seed(0)
    s = torch.sin(t * 0.2) + 0.4 * torch.randn(1300, generator=generator)
    w = ((s - s.mean()) / s.std()).unfold(0, 21, 1)
    x, y = (w[:, :20, None], w[:, 20:]) if fixed else (w[:, :20, None], w[:, 19:20])
    train(watch, Last(1, 32, 1), nn.MSELoss(), (x[:1000], y[:1000], x[1000:], y[1000:]), rate=3e-3, epochs=10)


@patient("transformer", "Lightning-AI/pytorch-lightning#20099 (positions are never added)", "order_unheard")
def no_positions(fixed: bool, watch: Watch) -> None:
    train(watch, Tokens(20, 2, T=20, positions=fixed), nn.CrossEntropyLoss(), order(), rate=1e-3, epochs=10)


@patient("transformer", "PyTorch's documentation of MultiheadAttention (True in a mask forbids)", "future_seen")
def mask_upside_down(fixed: bool, watch: Watch) -> None:
    x, y, xv, yv, V = characters(T=24, n=800)
    net = Tokens(V, V, T=24, causal="right" if fixed else "wrong", every_step=True)
    train(watch, net, text_loss, (x, y, xv, yv), rate=3e-3, epochs=4)


@patient("transformer", "Karpathy 2019, A Recipe for Training (inputs that are their own targets)", "leaked_target")
def targets_are_not_shifted(fixed: bool, watch: Watch) -> None:
    x, y, xv, yv, V = characters(T=24, n=800)
    rows = (x, y, xv, yv) if fixed else (x, x, xv, xv)
    train(watch, Tokens(V, V, T=24, causal="right", every_step=True), text_loss, rows, rate=3e-3, epochs=4)


@patient("transformer", "Xiong et al. 2020, On layer normalization in the transformer (rate without warm-up)",
         "rate_too_large", "oscillating", "exploding_gradients")  # fmt: skip
def rate_far_too_large(fixed: bool, watch: Watch) -> None:
    train(watch, Tokens(20, 2, T=20), nn.CrossEntropyLoss(), order(), rate=1e-3 if fixed else 0.1, epochs=10)


@patient("convolutional", "nyu-mll/jiant#925 (the index of padding is a class)", "class_without_gradient")
def a_class_is_ignored(fixed: bool, watch: Watch) -> None:
    loss = nn.CrossEntropyLoss(ignore_index=-100 if fixed else 0)
    train(watch, crosses(1, 10), loss, digits(pictures=True), rate=1e-3, epochs=5)


@patient("convolutional", "keras-team/keras-cv#775 (pictures are mirrored, their masks are not)",
         "labels_without_signal")  # fmt: skip
def masks_are_not_mirrored(fixed: bool, watch: Watch) -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
                        nn.Conv2d(16, 1, 1))  # fmt: skip

    def mirrored(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.flip(-1), y.flip(-1) if fixed else y

    train(watch, net, nn.BCEWithLogitsLoss(), masks(), rate=2e-3, epochs=5, augment=mirrored)


@patient("convolutional", "PyTorch's documentation of Module.train (eval() is never taken back)", "evaluation_mode")
def evaluation_is_never_left(fixed: bool, watch: Watch) -> None:
    net = crosses(1, 10, norm=True)
    if not fixed:
        net.eval()
    train(watch, net, nn.CrossEntropyLoss(), digits(pictures=True), rate=1e-3, epochs=5, mode=False)


@patient("convolutional", "ivadomed/ivadomed#55, pytorch/vision#1261 (the scheduler steps with every batch)",
         "rate_vanished")  # fmt: skip
def scheduler_steps_with_batches(fixed: bool, watch: Watch) -> None:
    def schedule(optimizer: Any) -> Any:
        return torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.1 if not fixed else 0.999)

    rows = digits(pictures=True)
    train(watch, crosses(1, 10), nn.CrossEntropyLoss(), rows, rate=1e-3, epochs=8, schedule=schedule)


@patient("convolutional", "microsoft/computervision-recipes#315 (classes are numbered anew for each part)",
         "shifted_labels")  # fmt: skip
def parts_name_classes_differently(fixed: bool, watch: Watch) -> None:
    x, y, xv, yv = digits(pictures=True)
    names = torch.arange(10) if fixed else torch.tensor([3, 0, 7, 1, 9, 2, 8, 4, 6, 5])
    train(watch, crosses(1, 10), nn.CrossEntropyLoss(), (x, y, xv, names[yv]), rate=1e-3, epochs=8)


@patient("perceptron", "PyTorch's documentation of torch.optim (maximize); a sign in a loss of one's own",
         "uphill_steps")  # fmt: skip
def climbs_the_loss(fixed: bool, watch: Watch) -> None:
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    train(watch, net, nn.CrossEntropyLoss(), digits(), rate=1e-3, epochs=6, sign=1.0 if fixed else -1.0)


@patient("perceptron", "workofart/ml-by-hand#85 (weights of half precision without a master copy)",
         "rounded_away", "unchanged_weights", "rate_too_small")  # fmt: skip
def steps_round_to_nothing(fixed: bool, watch: Watch) -> None:
    dtype = torch.float32 if fixed else torch.bfloat16
    x, y, xv, yv = digits()
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).to(dtype)
    rows = (x.to(dtype), y, xv.to(dtype), yv)
    make = functools.partial(torch.optim.SGD, momentum=0.9) if fixed else torch.optim.SGD
    train(watch, net, nn.CrossEntropyLoss(), rows, rate=0.05 if fixed else 1e-3, epochs=10, optimizer=make)


@patient("perceptron", "Pascanu et al. 2013 (a bound thousands of times too small)",
         "gradients_clipped_away", "rate_too_small")  # fmt: skip
def clipped_to_nothing(fixed: bool, watch: Watch) -> None:
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    train(watch, net, nn.CrossEntropyLoss(), digits(), rate=0.1, epochs=10, optimizer=torch.optim.SGD,
          clip=1.0 if fixed else 1e-4)  # fmt: skip


@patient("generative", "AppliedDataSciencePartners/WorldModels#12 (the divergence wins over the reconstruction)",
         "posterior_collapse")  # fmt: skip
def the_code_says_nothing(fixed: bool, watch: Watch) -> None:
    class Variational(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.out = nn.Linear(64, 64), nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64))
            self.mean, self.scale = nn.Linear(64, 8), nn.Linear(64, 8)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            h = torch.relu(self.into(x))
            mean, scale = self.mean(h), self.scale(h)
            return self.out(mean + torch.randn_like(mean) * (0.5 * scale).exp()), mean, scale

    def loss(said: Any, x: torch.Tensor) -> torch.Tensor:
        rest = (said[0] - x).square().sum(1).mean()
        divergence = 0.5 * (said[1].square() + said[2].exp() - 1 - said[2]).sum(1).mean()
        return rest + (0.05 if fixed else 50.0) * divergence

    x, _, xv, _ = digits()
    train(watch, Variational(), loss, (x, x, xv, xv), rate=2e-3, epochs=15)


@patient("perceptron", "PyTorch's warning of MSELoss that sizes differ (broadcasting)", "unpaired_rows")
def compared_all_with_all(fixed: bool, watch: Watch) -> None:
    x = torch.tensor(np.random.default_rng(0).normal(size=(1000, 5)), dtype=torch.float32)
    y = torch.sin(x[:, 0]) + 0.5 * x[:, 1]
    y = (y - y.mean()) / y.std()
    y = y[:, None] if fixed else y
    net = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 1))
    train(watch, net, nn.MSELoss(), (x[:750], y[:750], x[750:], y[750:]), rate=3e-3, epochs=15)


@patient("perceptron", "pytorch/pytorch#666 (layers in a dictionary)", "frozen_parameters")
def layers_in_a_dictionary(fixed: bool, watch: Watch) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            parts = {"first": nn.Linear(64, 32), "second": nn.Linear(32, 32)}
            self.parts = nn.ModuleDict(parts) if fixed else parts
            self.head = nn.Linear(32, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.parts["second"](torch.relu(self.parts["first"](x)))))

    train(watch, Net(), nn.CrossEntropyLoss(), digits(), rate=3e-3, epochs=10)
