import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

DATA = Path(os.environ.get("NASTAVNIK_DATA", Path(__file__).resolve().parents[1] / ".." / "shared" / "data"))


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets, where there is one."""
    if not (DATA / "kc_house_data.csv").exists():
        pytest.skip(f"no real data in {DATA}; set NASTAVNIK_DATA")
    return DATA


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def houses(rng: np.random.Generator) -> pd.DataFrame:
    """A small table of every kind: numbers with holes, words, booleans, dates; price depends on them."""
    n = 160
    area = rng.uniform(40, 200, n)
    town = rng.choice(["Ulm", "Bonn", "Kiel"], n)
    garden = rng.choice(["yes", "no"], n)
    price = 1000 * area + 20_000 * (town == "Bonn") + 9_000 * (garden == "yes") + rng.normal(0, 5000, n)
    rooms = np.where(rng.random(n) < 0.1, "?", np.round(area / 30).astype(int).astype(str))
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 700, n), unit="D")
    return pd.DataFrame(
        {
            "area": area.round(1),
            "rooms": rooms,
            "town": town,
            "garden": garden,
            "sold": days.strftime("%Y-%m-%d"),
            "price": price.round(0),
        }
    )


@pytest.fixture
def houses_csv(houses: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "houses.csv"
    houses.to_csv(path, index=False)
    return path


@pytest.fixture(autouse=True, scope="session")
def only_scikit_learn() -> Iterator[None]:
    """Baselines without LightGBM and CatBoost, which take seconds each, here and in processes started from here; they
    have tests of their own. scikit-learn is imported once, so that a fit without a budget starts no process to do it."""
    import_module("sklearn.ensemble")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent / "without_boosting"), prepend=os.pathsep)
        patch.setattr("nastavnik.selection._baselines.is_here", lambda name: name not in ("lightgbm", "catboost"))
        yield
