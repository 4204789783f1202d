import numpy as np
import pytest
import torch
from torch import nn

from nastavnik.errors import UserError
from nastavnik.nets import FAMILIES, Dropout, Factory, PiecewiseLinear, Signature, own_noise
from nastavnik.nets._embedding import quantile_bins
from nastavnik.noise import uniform_bits

SIGNATURE = Signature(
    3,
    (4, 2),
    2,
    (50, 50, 2),
    (torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(50, 2, dtype=torch.long)),
)


def bits(seed: int, step: int, rows: int = 64, columns: int = 128) -> np.ndarray:
    raw = uniform_bits(torch.tensor(seed, dtype=torch.int32), torch.tensor(step, dtype=torch.int32), rows, columns)
    return raw.numpy().astype(np.float64) / 2**32 + 0.5


def test_bits_are_uniform_and_uncorrelated() -> None:
    draws = np.stack([bits(7, step) for step in range(100)])
    n = draws.size
    assert abs(draws.mean() - 0.5) < 5 * (1 / 12 / n) ** 0.5
    counts = np.bincount((draws.ravel() * 64).astype(int), minlength=64)
    chi2 = ((counts - n / 64) ** 2 / (n / 64)).sum()
    assert chi2 < 63 + 5 * (2 * 63) ** 0.5
    flat = draws.reshape(100, -1) - 0.5
    between_steps = flat @ flat.T / flat.shape[1] * 12
    np.fill_diagonal(between_steps, 0)
    assert np.abs(between_steps).max() < 6 / flat.shape[1] ** 0.5
    grid = draws[0] - 0.5
    for table in (grid, grid.T):
        correlation = table @ table.T / table.shape[1] * 12
        np.fill_diagonal(correlation, 0)
        assert correlation.std() < 1.2 / table.shape[1] ** 0.5


def test_masks_are_the_networks_own_alone_and_under_vmap() -> None:
    seeds = torch.tensor([3, 99, -5], dtype=torch.int32)
    step = torch.tensor(4, dtype=torch.int32)
    together = torch.vmap(lambda s: uniform_bits(s, step, 8, 16))(seeds)
    for i, seed in enumerate(seeds):
        assert torch.equal(together[i], uniform_bits(seed, step, 8, 16))


def test_dropout_keeps_the_mean_and_draws_a_new_mask_each_call() -> None:
    layer = Dropout(0.3)
    own_noise(nn.Sequential(layer), 1)
    x = torch.ones(200, 300)
    first, second = layer(x), layer(x)
    assert first.mean().item() == pytest.approx(1.0, abs=0.02)
    assert (first == 0).double().mean().item() == pytest.approx(0.3, abs=0.01)
    assert not torch.equal(first, second)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    with pytest.raises(ValueError, match="0 <= rate < 1 must hold"):
        Dropout(1.0)


def test_own_noise_replaces_plain_dropout_and_layers_differ() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.4), nn.Sequential(nn.Dropout(0.1)))
    own_noise(network, 5)
    layers = [m for m in network.modules() if isinstance(m, Dropout)]
    assert [round(float(m.rate), 2) for m in layers] == [0.4, 0.1]
    assert layers[0].stream != layers[1].stream


def test_piecewise_linear_encodes_places_in_bins() -> None:
    examples = torch.arange(0, 101.0)[:, None]
    layer = PiecewiseLinear(4, (101,), quantile_bins(4, (101,), examples))
    encoded = layer(torch.tensor([[0.0], [25.0], [30.0], [100.0], [-1000.0], [1000.0]]))
    expected = [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0.2, 0, 0], [1, 1, 1, 1], [-3, 0, 0, 0], [1, 1, 1, 4]]
    torch.testing.assert_close(encoded, torch.tensor(expected, dtype=torch.float32))


def test_unused_bins_stay_silent() -> None:
    examples = torch.tensor([0.0, 1.0] * 30)[:, None]
    layer = PiecewiseLinear(8, (20,), quantile_bins(8, (20,), examples))
    assert layer.features == 8
    encoded = layer(torch.tensor([[0.0], [1.0], [0.5]]))
    assert (encoded[:, 1:] == 0).all()
    assert encoded[:, 0].tolist() == [0, 1, 0.5]


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_family_builds_every_default_and_any_draw(name: str) -> None:
    family = FAMILIES[name]
    generator = np.random.default_rng(0)

    def ask(key: str, node: object) -> object:
        if hasattr(node, "options"):
            return node.options[generator.integers(len(node.options))]
        return generator.uniform(node.low, node.high)  # type: ignore[attr-defined]

    for rows in (100, 3000, 50_000):
        points = [family.space(rows, 3).default()] + [family.space(rows, 3).draw(ask) for _ in range(10)]  # type: ignore[arg-type]
        for point in points:
            network = family.build({k.removeprefix("network."): v for k, v in point.items()}, SIGNATURE)
            out = network(torch.randn(5, 3), torch.tensor([[0, 1]] * 5))
            assert out.shape == (5, 2 * getattr(network, "members", 1))


def test_a_users_factory_gets_one_tensor_with_categories_one_hot() -> None:
    seen: list[torch.Tensor] = []

    class Mine(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.linear = nn.Linear(inputs, outputs)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return self.linear(x)

    network = Factory(Mine).build({}, SIGNATURE)
    network(torch.zeros(1, 3), torch.tensor([[2, 1]]))
    assert seen[-1].tolist() == [[0, 0, 0, 0, 0, 1, 0, 0, 1]]
    with pytest.raises(UserError, match="must give 2 outputs a row"):
        Factory(lambda i, o: nn.Linear(i, o + 1)).build({}, SIGNATURE)
    with pytest.raises(UserError, match=r"must return a torch\.nn\.Module, but gave int"):
        Factory(lambda i, o: 3).build({}, SIGNATURE)  # type: ignore[arg-type,return-value]


def test_a_dropout_used_twice_is_replaced_by_one() -> None:
    drop = nn.Dropout(0.3)
    network = nn.Sequential(nn.Linear(3, 4), drop, nn.Linear(4, 4), drop, nn.Linear(4, 1))
    own_noise(network, 5)
    assert type(network[1]) is Dropout
    assert network[3] is network[1]
