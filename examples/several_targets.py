"""Several targets at once: a price, whether it sold, and how often it was looked at, each known for some rows only.

python examples/several_targets.py
"""

from __future__ import annotations

import numpy as np
import pandas as pd

import nastavnik


def made(rows: int = 3000, seed: int = 0) -> pd.DataFrame:
    """Offers: what they share (how good a place is) tells all three targets; a third of each is not known."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(rows, 12)), columns=[f"feature {j}" for j in range(12)])
    good = np.tanh(frame.to_numpy() @ rng.normal(size=12) / 2)
    frame["price"] = 200 + 60 * good + 10 * rng.normal(size=rows)
    frame["sold"] = np.where(good + 0.3 * rng.normal(size=rows) > 0, "yes", "no")
    frame["visits"] = rng.poisson(np.exp(2 + good)).astype(float)
    for name in ("price", "sold", "visits"):
        frame[name] = frame[name].mask(rng.random(rows) < 1 / 3)
    return frame


def main() -> None:
    """Fit all three together, and say what that gained over a network for each."""
    run = nastavnik.fit(
        made(), target=["price", "sold", "visits"], task="visits=count", budget="60s", out="runs/offers"
    )
    for name, one in run.result["targets"].items():
        head = "accuracy" if "accuracy" in one["test"] else "r2"
        best = max((b["test"][head]["value"], baseline) for baseline, b in one["baselines"].items())
        print(f"{name}: {head} {one['test'][head]['value']:.3f}, the best baseline {best[0]:.3f} ({best[1]})")
        if "gain_of_sharing" in one:
            gain = one["gain_of_sharing"]
            print(
                f"    over a network of its own: {gain['value']:+.3f} nats ({gain['low']:+.3f} to {gain['high']:+.3f})"
            )
    print(run.model.predict(made(3, seed=1)).T)


if __name__ == "__main__":
    main()
