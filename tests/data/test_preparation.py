import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import PowerTransformer, StandardScaler

from nastavnik.data import Columns, Preparation, TargetPreparation


def columns_of(numbers: np.ndarray, words: np.ndarray | None = None) -> Columns:
    words = np.empty((len(numbers), 0), dtype=object) if words is None else words
    names = tuple(f"x{j}" for j in range(numbers.shape[1]))
    return Columns(numbers, words, names, tuple(f"w{j}" for j in range(words.shape[1])))


def test_standardizing_is_scikit_learns(rng: np.random.Generator) -> None:
    x = rng.normal(5, 3, (200, 4))
    rows = np.arange(150)
    prepared = Preparation.fit(columns_of(x), rows).apply(columns_of(x)).numbers.numpy()
    np.testing.assert_allclose(prepared, StandardScaler().fit(x[rows]).transform(x), atol=1e-6)


def test_only_training_rows_are_looked_at(rng: np.random.Generator) -> None:
    x = rng.normal(size=(100, 3))
    spoiled = x.copy()
    spoiled[80:] = 1e6
    rows = np.arange(80)
    first, second = (Preparation.fit(columns_of(v), rows) for v in (x, spoiled))
    np.testing.assert_array_equal(first.centre, second.centre)
    np.testing.assert_array_equal(first.scale, second.scale)


def test_heavy_tails_are_met_softly(rng: np.random.Generator) -> None:
    x = np.exp(rng.normal(0, 2.5, (2000, 1)))
    preparation = Preparation.fit(columns_of(x), np.arange(2000))
    assert preparation.method == ("robust",)
    z = preparation.apply(columns_of(x)).numbers.numpy()
    assert np.abs(z).max() < 3
    order = np.argsort(x[:, 0])
    assert (np.diff(z[order, 0]) >= 0).all()


def test_quantiles_give_normal_scores(rng: np.random.Generator) -> None:
    x = rng.exponential(size=(4000, 1))
    z = Preparation.fit(columns_of(x), np.arange(4000), numbers="quantile").apply(columns_of(x)).numbers.numpy()
    assert abs(z.mean()) < 0.02
    assert abs(z.std() - 1) < 0.03


def test_pixels_share_one_scale(rng: np.random.Generator) -> None:
    x = rng.integers(0, 17, (300, 64)).astype(float)
    x[:, 0] = 0
    preparation = Preparation.fit(columns_of(x), np.arange(300))
    assert set(preparation.method) == {"common"}
    assert len(set(preparation.scale)) == 1


def test_missing_cells_get_centre_and_mark() -> None:
    x = np.array([[1.0, 1.0], [3.0, np.nan], [np.nan, 3.0], [2.0, 2.0]])
    preparation = Preparation.fit(columns_of(x), np.arange(4))
    numbers = preparation.apply(columns_of(x)).numbers.numpy()
    assert preparation.input_names == ["x0", "x1", "x0 is missing", "x1 is missing"]
    assert numbers[2, 0] == 0
    np.testing.assert_array_equal(numbers[:, 2:], [[0, 0], [0, 1], [1, 0], [0, 0]])


def test_unseen_and_missing_categories_share_the_first_slot() -> None:
    words = np.array([["a"], ["b"], ["a"], ["c"], [None]], dtype=object)
    columns = columns_of(np.zeros((5, 0)), words)
    preparation = Preparation.fit(columns, np.array([0, 1, 2]))
    assert preparation.apply(columns).categories[:, 0].tolist() == [1, 2, 1, 0, 0]
    assert preparation.unseen(columns) == {"w0": 1}
    assert preparation.cardinalities == (3,)


def test_a_preparation_survives_its_record(rng: np.random.Generator) -> None:
    x = np.exp(rng.normal(0, 2, (60, 3)))
    x[3, 1] = np.nan
    columns = columns_of(x, rng.choice(["p", "q"], (60, 1)).astype(object))
    for numbers in ("auto", "quantile"):
        preparation = Preparation.fit(columns, np.arange(40), numbers=numbers)
        again = Preparation.from_record(*preparation.to_record())
        assert (again.apply(columns).numbers == preparation.apply(columns).numbers).all()
        assert (again.apply(columns).categories == preparation.apply(columns).categories).all()


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.floats(-1e4, 1e4), min_size=20, max_size=60, unique=True),
    transform=st.sampled_from(["identity", "log", "yeo-johnson"]),
)
def test_targets_go_there_and_back(values: list[float], transform: str) -> None:
    y = np.array(values)
    if transform == "log":
        y = np.abs(y) + 1
    target = TargetPreparation.fit_real(y, transform)
    z = (target._transform(y) - target.centre) / target.scale
    np.testing.assert_allclose(target.own_units(z), y, rtol=1e-6, atol=1e-5 * np.abs(y).max())


@pytest.mark.parametrize("transform", ["identity", "log", "yeo-johnson"])
def test_the_jacobian_is_the_derivative(transform: str, rng: np.random.Generator) -> None:
    y = rng.lognormal(0, 1, 50) + 0.1
    target = TargetPreparation.fit_real(y, transform)

    def prepared(v: np.ndarray) -> np.ndarray:
        return (target._transform(v) - target.centre) / target.scale

    step = 1e-6 * y
    slope = (prepared(y + step) - prepared(y - step)) / (2 * step)
    np.testing.assert_allclose(target.log_jacobian(y), np.log(slope), rtol=1e-5, atol=1e-6)


def test_yeo_johnson_is_scikit_learns(rng: np.random.Generator) -> None:
    y = rng.gamma(2.0, 1.0, 400) - 1
    target = TargetPreparation.fit_real(y, "yeo-johnson")
    theirs = PowerTransformer().fit(y[:, None])
    assert target.power == pytest.approx(theirs.lambdas_[0], abs=1e-3)
    np.testing.assert_allclose(target.apply(y).numpy(), theirs.transform(y[:, None])[:, 0], atol=2e-3)


def test_skew_asks_for_the_logarithm(rng: np.random.Generator) -> None:
    assert TargetPreparation.fit_real(rng.lognormal(10, 0.8, 500)).transform == "log"
    assert TargetPreparation.fit_real(rng.normal(0, 1, 500)).transform == "identity"


def test_the_mean_in_own_units_is_the_lognormal_mean() -> None:
    target = TargetPreparation("real", (), "log", 1.0, 0.3, 0.5)
    mean, deviation = np.array([0.2, -1.0]), np.array([0.4, 1.1])
    m, s = mean * 0.5 + 0.3, deviation * 0.5
    np.testing.assert_allclose(target.own_mean(mean, deviation), np.exp(m + s**2 / 2), rtol=1e-10)
