"""How numbers enter a perceptron: bins, waves, learned scales, and the tangent parametrization."""

import numpy as np
import pytest
import torch
from sklearn.tree import DecisionTreeRegressor
from torch import nn

from nastavnik.errors import UserError
from nastavnik.nets import FAMILIES, Signature
from nastavnik.nets._embedding import Periodic, PiecewiseLinear, quantile_bins, target_bins
from nastavnik.nets._scaling import Scaling, TangentLinear
from nastavnik.nets.initializers import initialize
from nastavnik.recipe import Value

PLAIN: dict[str, Value] = {
    "family": "mlp", "width": 16, "depth": 2, "embedding": "none", "bins": 0, "activation": "relu",
    "normalization": "none", "residual": False, "dropout": 0.0,
}  # fmt: skip


def test_target_bins_end_where_a_tree_splits(rng: np.random.Generator) -> None:
    x = rng.normal(size=(3000, 2)).astype(np.float32)
    y = np.select([x[:, 0] < -0.5, x[:, 0] < 0.2, x[:, 0] < 1.1], [0.0, 3.0, 1.0], 5.0)
    found = target_bins(4, (3000, 3000), torch.from_numpy(x), torch.from_numpy(y)[:, None])
    tree = DecisionTreeRegressor(max_leaf_nodes=4).fit(x[:, :1].astype(np.float64), y)
    wanted = np.sort(tree.tree_.threshold[tree.tree_.feature == 0])
    np.testing.assert_allclose(found.left[1:4].numpy(), wanted, atol=1e-3)


def test_target_bins_see_what_is_rare_and_tells() -> None:
    x = torch.zeros(4000)
    x[:200] = torch.linspace(1, 100, 200)
    y = ((x > 40) & (x < 60)).double()[:, None]
    by_rank = quantile_bins(8, (201,), x[:, None])
    told = target_bins(8, (201,), x[:, None], y)
    assert (by_rank.left < 1e29).sum() < 3  # nearly all rows are zero: quantiles fall together
    edges = told.left[told.left < 1e29]
    assert min(abs(edges - 40)) < 1
    assert min(abs(edges - 60)) < 1


def test_target_bins_of_nothing_to_tell_and_of_one_value() -> None:
    x = torch.stack([torch.zeros(100), torch.arange(100.0)], dim=1)
    found = target_bins(4, (1, 100), x, torch.zeros(100, 1, dtype=torch.double))
    encoded = PiecewiseLinear(4, (1, 100), found)(x)
    assert torch.isfinite(encoded).all()


def test_waves_are_the_published_function(rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    layer = Periodic(3, 4, 0.5)
    x = torch.from_numpy(rng.normal(size=(7, 3))).float()
    said = layer(x).reshape(7, 3, 4)
    f, p = 0.1 * layer.frequency, 0.1 * layer.phase
    for j in range(3):
        waves = torch.cos(2 * torch.pi * (x[:, j : j + 1] * f[j] + p[j]))
        torch.testing.assert_close(said[:, j, 0], x[:, j])
        torch.testing.assert_close(said[:, j, 1:], waves @ layer.weight[j] + layer.bias[j])
    many = Periodic(500, 4, 0.5)
    assert float((0.1 * many.frequency.detach()).std()) == pytest.approx(0.5, rel=0.05)
    assert float((0.1 * many.phase.detach()).abs().max()) <= 0.5


def test_waves_do_not_follow_numbers_far_outside_the_training_range() -> None:
    layer = Periodic(1, 4, 0.5, (torch.tensor([-1.0]), torch.tensor([3.0])))
    said = layer(torch.tensor([[3.0], [4.9], [5.0], [5.1], [1e6], [-3.0], [-1e6]]))
    assert not torch.equal(said[0], said[1])
    torch.testing.assert_close(said[2], said[4])
    torch.testing.assert_close(said[3], said[4])
    torch.testing.assert_close(said[5], said[6])


def test_scales_start_at_one_and_learn_six_times_as_fast() -> None:
    layer = Scaling(3)
    x = torch.tensor([[1.0, -2.0, 3.0]])
    torch.testing.assert_close(layer(x), x)
    layer(x).sum().backward()
    assert layer.scale.grad is not None
    torch.testing.assert_close(layer.scale.grad, 6 * x[0])  # Adam takes equal steps of what is held, six of what acts


@pytest.mark.parametrize("inputs", [4, 256, 1024])
def test_a_tangent_layer_acts_by_its_factor_and_keeps_its_variance(inputs: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(TangentLinear(inputs, 400), nn.ReLU(), nn.Linear(400, 1))
    initialize(network, {"name": "he"})
    layer = network[0]
    assert isinstance(layer, TangentLinear)
    assert layer.factor == pytest.approx((256 / inputs) ** 0.5)
    assert float(layer.effective().detach().std()) == pytest.approx((2 / inputs) ** 0.5, rel=0.1)  # He's, of what acts
    x = torch.randn(5, inputs)
    torch.testing.assert_close(layer(x), x @ layer.effective().T + layer.bias)


def test_tangent_layers_do_not_go_with_weight_normalization() -> None:
    own = {**PLAIN, "parametrization": "ntp", "normalization": "weight"}
    with pytest.raises(UserError, match=r"ntp does not go with network\.normalization=weight"):
        FAMILIES["mlp"].build(own, Signature(3, (), 1, (9, 9, 9)))
    with pytest.raises(UserError, match=r"network\.parametrization cannot be 'npt'; did you mean 'ntp'"):
        FAMILIES["mlp"].build({**PLAIN, "parametrization": "npt"}, Signature(3, (), 1, (9, 9, 9)))


def test_bins_are_fitted_once_for_all_networks_of_the_rows() -> None:
    x = torch.randn(200, 2)
    own = Signature(2, (), 1, (200, 200), (x, torch.zeros(200, 0, dtype=torch.long)), answers=x[:, :1])
    settings = {**PLAIN, "embedding": "piecewise", "bins": 4, "edges": "target"}
    first, second = (FAMILIES["mlp"].build(settings, own).numbers for _ in range(2))
    assert own.bins(4, "target") is own.bins(4, "target")
    assert isinstance(first, PiecewiseLinear)
    assert isinstance(second, PiecewiseLinear)
    torch.testing.assert_close(first.left, second.left)
    told, ranked = own.bins(4, "target"), own.bins(4, "quantile")
    assert told is not None
    assert ranked is not None
    assert not torch.equal(told.left, ranked.left)
