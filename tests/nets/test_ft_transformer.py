"""The FT-Transformer: its size and answers are the published form's, and it runs in populations."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nastavnik
from nastavnik.errors import UserError
from nastavnik.nets import FAMILIES, Signature
from nastavnik.nets._ft_transformer import Attention, Block, FtTransformerNetwork
from nastavnik.population import Data, Learner, Population
from nastavnik.recipe import Recipe, Value
from nastavnik.selection import families_for
from nastavnik.training.likelihoods import Gaussian

SETTINGS: dict[str, Value] = {"width": 16, "depth": 2, "heads": 4, "dropout": 0.0, "attention_dropout": 0.0}


def network(signature: Signature, **more: Value) -> FtTransformerNetwork:
    built = FAMILIES["ft_transformer"].build({**SETTINGS, **more}, signature)
    assert isinstance(built, FtTransformerNetwork)
    return built


def test_it_has_as_many_parameters_as_the_authors_own() -> None:
    published: dict[str, Value] = {"width": 192, "depth": 3, "heads": 8}
    for cardinalities, count in (((), 893_954), ((3, 7), 896_258)):  # of the authors' code, five numbers, two outputs
        net = network(Signature(5, cardinalities, 2, (50,) * 5), **published)
        assert sum(p.numel() for p in net.parameters()) == count


def test_attention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(16, 4, 0.0).double(), nn.MultiheadAttention(16, 4, batch_first=True).double()
    layers = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        for layer in (*layers, ours.output):
            layer.bias.normal_()
        theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in layers]))
        theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in layers]))
    theirs.out_proj.load_state_dict(ours.output.state_dict())
    tokens = torch.randn(3, 7, 16, dtype=torch.float64)
    asking = tokens[:, :1]
    torch.testing.assert_close(ours(asking, tokens), theirs(asking, tokens, tokens)[0])


def test_every_input_is_a_token_and_the_first_one_is_read() -> None:
    torch.manual_seed(1)
    net = network(Signature(3, (4,), 2, (50,) * 3), depth=1).double().eval()
    x, level = torch.randn(5, 3, dtype=torch.float64), torch.tensor([[0], [1], [2], [3], [1]])
    tokens = torch.stack(
        [
            net.tokens.reading.expand(5, -1),
            *(x[:, [j]] * net.tokens.weight[j] + net.tokens.bias[j] for j in range(3)),
            net.tokens.levels[0].weight[level[:, 0]] + net.tokens.level_bias[0],  # type: ignore[index]
        ],
        dim=1,
    )
    torch.testing.assert_close(net.tokens(x, level), tokens)
    block = net.blocks[0]
    assert isinstance(block, Block)
    read = tokens[:, 0] + block.attention(tokens, tokens)[:, 0]  # the first block has no normalization before it
    hidden = block.hidden.first(F.layer_norm(read, (16,)))
    read = read + block.hidden.second(hidden[:, :21] * torch.relu(hidden[:, 21:]))
    torch.testing.assert_close(net(x, level), net.output(torch.relu(F.layer_norm(read, (16,)))))


def test_in_a_population_it_is_what_it_is_alone() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(96, 5))).float()
    y = (x[:, 0] * x[:, 1] + 0.1 * torch.randn(96, generator=torch.Generator().manual_seed(0))).float()
    data = Data.of([(x, torch.zeros(96, 0, dtype=torch.long))], [y], [(np.arange(64), np.arange(64, 96))], seed=0)
    usual: dict[str, Value] = {"optimizer.name": "adamw", "network.dropout": 0.1, "network.attention_dropout": 0.2}
    recipes = [
        Recipe({**usual, "optimizer.learning_rate": rate, "batch_size": 16, "seed": s})
        for s, rate in enumerate((0.003, 0.01, 0.001))
    ]
    signature = Signature(5, (), 1, (50,) * 5)

    def trained(way: str, some: list[Recipe]) -> Population:
        learners = [
            Learner.seeded(
                int(r["seed"]), lambda: (network(signature, dropout=0.1, attention_dropout=0.2), Gaussian("learned"))
            )
            for r in some
        ]
        population = Population(learners, some, data, total_steps=30, evaluations=3, engine=way)
        population.train(30)
        return population

    together = trained("batched", recipes)
    assert together.way == "batched"
    for k, recipe in enumerate(recipes):
        alone = trained("sequential", [recipe]).network(0).state_dict()
        for name, value in together.network(k).state_dict().items():
            if value.is_floating_point() and not name.endswith("key.bias"):  # which no share depends on: noise alone
                torch.testing.assert_close(value, alone[name], rtol=2e-3, atol=2e-4, msg=f"{name} of network {k}")


def test_it_is_trained_where_it_is_asked_for_and_its_model_is_read_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(rng.normal(size=(240, 2)), columns=["a", "b"])
    frame["word"] = rng.choice(["red", "blue"], 240)
    said = np.array([f"word{i} of some text number" for i in range(60)])
    frame["text"] = [f"{said[i]} {said[j]}" for i, j in rng.integers(0, 60, (240, 2))]
    frame["y"] = 2 * frame["a"] + 3 * (frame["word"] == "red")
    small: dict[str, Value] = {
        "network.width": 64, "network.depth": 1, "epochs": 10, "preparation.text": "auto",
        "optimizer.learning_rate": 1e-3,
    }  # fmt: skip
    run = nastavnik.fit(
        frame, target="y", networks=2, family="ft_transformer", settings=small, folds=0, out=tmp_path / "run"
    )
    assert run.result["chosen"]["recipe"]["network"]["family"] == "ft_transformer"
    assert run.result["test"]["r2"]["value"] > 0.6
    again = nastavnik.Model.load(tmp_path / "run")
    pd.testing.assert_frame_equal(again.predict(frame), run.model.predict(frame))
    assert "ft_transformer" not in [f.name for f in families_for((), run.dataset.columns)]


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(UserError, match=r"network\.width must be a multiple of network.heads, but got 10 and 4"):
        network(Signature(2, (), 1, (5, 5)), width=10)
