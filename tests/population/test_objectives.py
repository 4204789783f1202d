"""What a population minimizes need not be a column's likelihood: inputs given back, a teacher imitated, pairs compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import softplus

from nastavnik.population import Data, Learner, Population
from nastavnik.recipe import Recipe, Value
from nastavnik.training.likelihoods import Categorical, Likelihood, Vector, Votes
from nastavnik.training.losses import LOSSES, TrainingLoss
from nastavnik.training.optimizers import OPTIMIZERS, WRAPPERS, wrapped

MANY = 64
PLAIN: dict[str, Value] = {
    "network.family": "own",
    "optimizer.name": "adam",
    "schedule.name": "cosine",
    "batch_size": 120,
    "seed": 0,
}


def points(seed: int = 0) -> torch.Tensor:
    """120 rows of six numbers that lie near a plane, by column of mean 0."""
    g = torch.Generator().manual_seed(seed)
    plane = torch.randn(120, 2, generator=g) @ torch.randn(2, 6, generator=g)
    x = plane + 0.1 * torch.randn(120, 6, generator=g)
    return x - x.mean(0)


def data(x: torch.Tensor, targets: torch.Tensor) -> Data:
    rows = np.arange(len(x))
    return Data.of([(x,)], [targets], [(rows, rows)], seed=0)


def trained(learners: list[Learner], own: Data, steps: int, **recipe: Value) -> Population:
    rates = np.geomspace(0.01, 0.04, len(learners))
    given = {key.replace("__", "."): value for key, value in recipe.items()}
    recipes = [Recipe({**PLAIN, **given, "optimizer.learning_rate": float(r), "seed": i}) for i, r in enumerate(rates)]
    population = Population(learners, recipes, own, total_steps=steps, evaluations=1, instruments={})
    population.train(steps)
    return population


def test_64_autoencoders_are_one_program_and_reach_what_principal_components_reach() -> None:
    x = points()
    own = data(x, x)
    assert own.targets.data_ptr() == own.inputs[0].data_ptr()  # targets that are inputs lie in memory once

    def make() -> tuple[nn.Module, Vector]:
        return nn.Sequential(nn.Linear(6, 2), nn.Linear(2, 6)), Vector(6)

    population = trained([Learner.seeded(i, make) for i in range(MANY)], own, 1500)
    values = torch.linalg.svdvals(x)
    least = float((values[2:] ** 2).sum() / x.numel())  # Eckart & Young 1936: no plane is nearer
    outputs = population.predict(x)
    errors = (outputs - x).square().mean((1, 2))
    assert errors.min() >= least * (1 - 1e-4)
    assert errors.median() < 1.1 * least
    first = population.network(0).likelihood
    assert isinstance(first, Vector)
    noise = first.scale().detach().square().mean()
    assert float(noise) == pytest.approx(float(errors[0]), rel=0.1)


def test_measurements_may_each_have_a_scale_and_may_be_missing() -> None:
    x = points()
    g = torch.Generator().manual_seed(3)
    noise = torch.tensor([0.1, 1.0])
    y = x[:, :2] @ torch.randn(2, 2, generator=g) + noise * torch.randn(120, 2, generator=g)
    y[::3, 1] = float("nan")

    def make() -> tuple[nn.Module, Vector]:
        return nn.Linear(6, 2), Vector(2, each=True)

    population = trained([Learner.seeded(i, make) for i in range(4)], data(x, y), 1500)
    away = population.predict(x)[0] - y
    rms = torch.stack([away[:, 0].square().mean().sqrt(), away[y[:, 1] == y[:, 1], 1].square().mean().sqrt()])
    likelihood = population.network(0).likelihood
    assert isinstance(likelihood, Vector)
    torch.testing.assert_close(likelihood.scale().detach(), rms, rtol=0.05, atol=0)


def test_denoising_is_an_option_of_the_recipe() -> None:
    x = points()

    def make() -> tuple[nn.Module, Vector]:
        return nn.Sequential(nn.Linear(6, 6, bias=False)), Vector(6)

    def gain(**recipe: Value) -> float:
        population = trained([Learner.seeded(i, make) for i in range(4)], data(x, x), 800, **recipe)
        return float(torch.linalg.svdvals(population.network(0).network[0].weight.detach())[-1])  # type: ignore[index]

    assert gain() > 0.8  # without noise the identity is learned
    assert gain(regularization__input_noise=0.5) < 0.5  # with it, directions that hold only noise are shrunk


def test_64_students_imitate_one_teacher_as_one_program() -> None:
    x = points()
    torch.manual_seed(1)
    teacher = nn.Linear(6, 3)
    soft = torch.softmax(teacher(x), -1).detach()

    def make() -> tuple[nn.Module, Votes]:
        return nn.Linear(6, 3), Votes(3)

    population = trained([Learner.seeded(i, make) for i in range(MANY)], data(x, soft), 800)
    said = torch.softmax(population.predict(x), -1)
    assert float((said - soft).abs().amax((1, 2)).median()) < 0.02
    assert len(population.numbers) == MANY


class Pairs(TrainingLoss):
    """Draws rows of one class together and pushes others apart, over all pairs of a batch."""

    name = "pairs"
    formula = "-mean over j of the same class of log softmax_j(z_i . z_j)"
    prefer = "to learn places in which neighbours are alike"
    source = "Khosla et al. 2020"
    targets = ("class",)
    normalized = False

    def rows(self, likelihood: object, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        z = nn.functional.normalize(outputs, dim=-1)
        alike = 5 * z @ z.T - 1e9 * torch.eye(len(z))
        same = (targets[:, None] == targets[None]).to(z.dtype) - torch.eye(len(z))
        return -(same * alike.log_softmax(-1)).sum(-1) / same.sum(-1).clamp(min=1)


def test_a_loss_over_pairs_of_a_batch_is_one_class_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "pairs", Pairs)
    x = points()
    classes = (x[:, 0] > 0).long()

    def make() -> tuple[nn.Module, Categorical, Pairs]:
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2)), Categorical(2), Pairs()

    population = trained([Learner.seeded(i, make) for i in range(4)], data(x, classes), 300, loss__name="pairs")
    z = nn.functional.normalize(population.predict(x)[0], dim=-1)
    near = (z @ z.T - 2 * torch.eye(len(z))).argmax(1)
    assert (classes[near] == classes).float().mean() > 0.95


def test_folds_share_raw_pixels() -> None:
    """Five folds of one tensor of bytes take no more memory than one."""
    pixels = torch.randint(0, 256, (100, 8, 8, 1), dtype=torch.uint8)
    rows = np.arange(100)
    pairs = [(rows[rows % 5 != g], rows[rows % 5 == g]) for g in range(5)]
    numbers = [torch.randn(100, 2) for _ in range(5)]
    own = Data.of([(n, pixels) for n in numbers], [torch.zeros(100)] * 5, pairs, seed=0)
    assert own.inputs[1].shape == (5, 100, 8, 8, 1)
    assert own.inputs[1].untyped_storage().nbytes() == pixels.numel()
    assert own.bytes == 5 * 100 * 2 * 4 + pixels.numel() + 400
    torch.testing.assert_close(own.rows_of(3, torch.tensor([7, 9]))[0][1], pixels[[7, 9]])


class Players(nn.Module):
    """A generator of numbers from noise, and a critic that tells them from the rows: what it says of a row, of a made
    one as the critic learns from it, and of a made one as the generator does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        self.critic = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        made = self.generator(noise)
        frozen = {name: p.detach() for name, p in self.critic.named_parameters()}
        says = functional_call(self.critic, frozen, (made,))
        return torch.cat([self.critic(x), self.critic(made.detach()), says], dim=-1)


class Game(TrainingLoss):
    """The critic's two losses and the generator's (Goodfellow et al. 2014, the one that does not saturate)."""

    name, formula, prefer, source = "game", "", "", "Goodfellow et al. 2014"
    targets = ("vector",)

    def rows(self, likelihood: Likelihood, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        real, made, won = outputs.unbind(-1)
        return softplus(-real) + softplus(made) + softplus(-won)


def game(turns: bool, engine: str = "batched", steps: int = 3000) -> tuple[Population, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    x, noise = 2 + 0.5 * torch.randn(1200, 1, generator=g), torch.randn(1200, 1, generator=g)
    rows = np.arange(1200)
    own = Data.of([(x, noise)], [torch.zeros(1200, 3)], [(rows, rows)], seed=0)
    extra = {"optimizer.turns": 0.0, "optimizer.turns@network.critic.*": 1.0, "optimizer.turns_of": 2.0}
    recipes = [
        Recipe(
            {**PLAIN, "optimizer.learning_rate": 0.01, "optimizer.beta1": 0.5, "seed": i, **(extra if turns else {})}
        )
        for i in range(8)
    ]
    learners = [Learner.seeded(i, lambda: (Players(), Vector(3), Game())) for i in range(8)]
    population = Population(learners, recipes, own, total_steps=steps, evaluations=0, instruments={}, engine=engine)
    return population, noise


def test_two_players_in_turn_are_one_program_and_make_what_the_rows_are() -> None:
    population, noise = game(turns=True)
    population.train(1)
    start = [Learner.seeded(0, lambda: (Players(), Vector(3), Game())), population.network(0)]
    names = [n for n, p in start[0].named_parameters() if not torch.equal(p, dict(start[1].named_parameters())[n])]
    assert names
    assert all(name.startswith("network.generator.") for name in names)  # the critic waits for its turn
    population.train(3000)
    made = torch.stack([population.network(k).network.generator(noise).detach() for k in range(8)])  # type: ignore[operator]
    assert float((made.mean(1) - 2).abs().median()) < 0.15
    assert float((made.std(1) - 0.5).abs().median()) < 0.2


def test_each_players_moves_are_those_of_its_own_optimizer() -> None:
    """Turns of one player are plain Adam's steps; of two each makes every second of them with its own moments."""
    torch.manual_seed(0)
    parameters = {"a": torch.randn(3, 2), "b": torch.randn(2)}
    gradients = [{n: torch.randn_like(p) for n, p in parameters.items()} for _ in range(6)]
    numbers = {name: torch.tensor(v) for name, v in OPTIMIZERS["adam"].settings.items()}
    settings = {**numbers, "turns": torch.tensor(0.0), "turns@b": torch.tensor(1.0), "turns_of": torch.tensor(2.0)}
    taking = wrapped(OPTIMIZERS["adam"]({}), {"turns": 0.0}, WRAPPERS)
    now, state = dict(parameters), taking.init(parameters)
    for g in gradients:
        now, state = taking.update(g, state, now, settings)  # type: ignore[attr-defined]
    for name, own in (("a", gradients[::2]), ("b", gradients[1::2])):
        alone = OPTIMIZERS["adam"]({})
        w, kept = {name: parameters[name]}, alone.init({name: parameters[name]})
        for g in own:
            w, kept = alone.update({name: g[name]}, kept, w, numbers)  # type: ignore[attr-defined]
        torch.testing.assert_close(now[name], w[name])
