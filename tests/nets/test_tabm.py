"""TabM: its layers, its members' likelihood, and that it runs in every way."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

import nastavnik
from nastavnik.nets import FAMILIES, Signature
from nastavnik.nets._tabm import SharedLinear, TabmNetwork
from nastavnik.population import Data, Learner, Population
from nastavnik.recipe import Recipe, Value
from nastavnik.selection import families_for
from nastavnik.training.likelihoods import Categorical, Gaussian, Members
from nastavnik.training.losses import NegLogLikelihood

MEMBERS = 4
SETTINGS: dict[str, Value] = {
    "members": MEMBERS, "width": 8, "depth": 2, "embedding": "none", "bins": 0, "activation": "relu", "dropout": 0.0,
}  # fmt: skip


def network(outputs: int = 3, members: int = MEMBERS, **more: Value) -> TabmNetwork:
    built = FAMILIES["tabm"].build({**SETTINGS, "members": members, **more}, Signature(5, (), outputs, (50,) * 5))
    assert isinstance(built, TabmNetwork)
    return built


def test_a_member_is_a_perceptron_of_its_own_scaled_weights() -> None:
    torch.manual_seed(0)
    net, x = network(), torch.randn(6, 5)
    for layer in net.layers:
        assert isinstance(layer, SharedLinear)
        layer.s.data += torch.randn(layer.s.shape)
    said = net(x, torch.zeros(6, 0, dtype=torch.long)).reshape(6, MEMBERS, 3)
    for k in range(MEMBERS):
        h = x
        for layer in net.layers:
            assert isinstance(layer, SharedLinear)
            weight = layer.s[k][:, None] * layer.weight * layer.r[k][None]
            h = F.relu(F.linear(h, weight, layer.bias[k]))
        torch.testing.assert_close(said[:, k], h @ net.heads[k] + net.bias[k])


def test_members_differ_at_first_by_signs_alone_and_share_their_matrices() -> None:
    net = network(members=32, width=64)
    first, second = net.layers
    assert isinstance(first, SharedLinear)
    assert isinstance(second, SharedLinear)
    assert set(first.r.unique().tolist()) == {-1.0, 1.0}
    assert (second.r == 1).all()
    assert (first.s == 1).all()
    # two matrices, 32 members' scales and biases of each, 32 heads: the paper's count
    shared, own = 5 * 64 + 64 * 64, 32 * (5 + 64 + 64) + 32 * (64 + 64 + 64) + 32 * (64 * 3 + 3)
    assert sum(p.numel() for p in net.parameters()) == shared + own


def test_training_is_the_mean_of_members_and_judging_their_mixture() -> None:
    torch.manual_seed(1)
    learner = Learner(network(), Categorical(3), NegLogLikelihood())
    x, y = torch.randn(7, 5), torch.randint(0, 3, (7,))
    none = torch.zeros(7, 0, dtype=torch.long)
    logits = learner(x, none).reshape(7, MEMBERS, 3)
    each = torch.stack([F.cross_entropy(logits[:, k], y, reduction="none") for k in range(MEMBERS)], dim=1)
    torch.testing.assert_close(learner(x, none, targets=y), each.mean(1))
    assert isinstance(learner.likelihood, Members)
    mixed = torch.softmax(logits, -1).mean(1)[torch.arange(7), y]
    torch.testing.assert_close(learner.likelihood.neg_log_likelihood(logits.flatten(1), y), -mixed.log())
    assert not learner.normalized
    described = {n: t.detach().numpy() for n, t in learner.likelihood.describe(logits.flatten(1)).items()}
    from nastavnik.data import TargetPreparation
    from nastavnik.predictive import ClassPredictive

    said = learner.likelihood.predictive(described, TargetPreparation("class", ("a", "b", "c")))
    assert isinstance(said, ClassPredictive)
    np.testing.assert_allclose(said.probabilities, torch.softmax(logits, -1).mean(1).detach(), rtol=1e-5)


@pytest.mark.parametrize("engine", ["batched", "compiled"])
def test_in_a_population_it_is_what_it_is_alone(engine: str) -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(96, 5))).float()
    y = (x[:, 0] * x[:, 1] + 0.1 * torch.randn(96, generator=torch.Generator().manual_seed(0))).float()
    inputs = (x, torch.zeros(96, 0, dtype=torch.long))
    data = Data.of([inputs], [y], [(np.arange(64), np.arange(64, 96))], seed=0)
    recipes = [
        Recipe(
            {
                "optimizer.name": "adamw",
                "optimizer.learning_rate": rate,
                "network.dropout": 0.1,
                "batch_size": 16,
                "seed": s,
            }
        )
        for s, rate in enumerate((0.003, 0.01, 0.001))
    ]

    def trained(way: str, some: list[Recipe]) -> Population:
        learners = [
            Learner.seeded(int(r["seed"]), lambda: (network(1, dropout=0.1), Gaussian("learned"))) for r in some
        ]
        population = Population(learners, some, data, total_steps=40, evaluations=4, engine=way)
        population.train(40)
        return population

    together = trained(engine, recipes)
    assert together.way == engine
    for k, recipe in enumerate(recipes):
        alone = trained("sequential", [recipe]).network(0).state_dict()
        for name, value in together.network(k).state_dict().items():
            if value.is_floating_point():
                torch.testing.assert_close(value, alone[name], rtol=2e-3, atol=2e-4, msg=f"{name} of network {k}")


def test_it_is_trained_where_it_is_asked_for_and_its_model_is_read_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(rng.normal(size=(240, 3)), columns=["a", "b", "c"])
    frame["word"] = rng.choice(["red", "blue"], 240)
    frame["y"] = frame["a"] * frame["b"] + (frame["word"] == "red")
    small = {"network.members": 8, "network.width": 64, "network.depth": 1}
    run = nastavnik.fit(frame, target="y", networks=2, family="tabm", settings=small, folds=0, out=tmp_path / "run")
    assert run.result["chosen"]["recipe"]["network"]["family"] == "tabm"
    again = nastavnik.Model.load(tmp_path / "run")
    pd.testing.assert_frame_equal(again.predict(frame), run.model.predict(frame))
    assert "tabm" not in [f.name for f in families_for((), run.dataset.columns)]
