"""A twin of a well-known table of used cars: the same columns and ways of writing, made from a formula.

Prices follow brand, model, power, age and use, with noise; numbers stand in words as in the original: ``23.4 kmpl`` or
``17.3 km/kg``, ``1248 CC``, ``74 bhp``, ``190Nm@ 2000rpm`` or ``12.7@ 2,700(kgm@ rpm)``; some cells are empty.
``python benchmarks/used_cars.py cars.csv`` writes it.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

_ROWS = 6700
_BRANDS = {
    "Maruti": 0.0,
    "Hyundai": 0.1,
    "Honda": 0.2,
    "Toyota": 0.45,
    "Ford": 0.1,
    "Tata": -0.15,
    "Skoda": 0.3,
    "BMW": 1.2,
}
_MODELS = ("Swift", "City", "Alto", "Indigo", "Verna", "Figo", "Creta", "Rapid", "Nexon", "Etios", "Dzire", "Santro")
_TRIMS = ("LXI", "VXI", "ZXI", "Sportz", "Titanium", "Base")


def used_cars(seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table as people would get it, and the same with every number parsed by hand."""
    rng = np.random.default_rng(seed)
    n = _ROWS
    brand = rng.choice(list(_BRANDS), n, p=[0.3, 0.2, 0.1, 0.08, 0.08, 0.12, 0.07, 0.05])
    model, trim = rng.integers(0, len(_MODELS), n), rng.integers(0, len(_TRIMS), n)
    year = 2020 - np.minimum(rng.gamma(3.5, 1.9, n).astype(int), 25)
    km = np.maximum(500, (2020 - year) * rng.normal(11_000, 4_000, n) + rng.normal(0, 4_000, n)).round(-2).astype(int)
    fuel = rng.choice(["Diesel", "Petrol", "CNG", "LPG"], n, p=[0.54, 0.44, 0.015, 0.005])
    size = 0.2 * rng.normal(size=n) + 0.06 * (model - 5) + 0.3 * np.array([_BRANDS[b] for b in brand])
    engine = (1200 * np.exp(size)).round().astype(int)
    power = np.round(engine * 0.066 * np.exp(0.12 * rng.normal(size=n)), 1)
    gas = np.isin(fuel, ["CNG", "LPG"])
    mileage = np.round(21 - 5 * size + (fuel == "Diesel") * 2 + rng.normal(0, 1.5, n), 1)
    torque = np.round(power * 2.4 * np.where(fuel == "Diesel", 1.3, 0.9) * np.exp(0.05 * rng.normal(size=n)))
    turns = rng.choice([1500, 1750, 2000, 2500, 3000, 4000, 4500], n)
    seats = rng.choice([5, 7, 8, 4], n, p=[0.8, 0.13, 0.04, 0.03])
    owner = rng.choice(["First Owner", "Second Owner", "Third Owner"], n, p=[0.66, 0.26, 0.08])
    seller = rng.choice(["Individual", "Dealer", "Trustmark Dealer"], n, p=[0.82, 0.15, 0.03])
    gear = np.where(rng.random(n) < 0.1 + 0.3 * (brand == "BMW"), "Automatic", "Manual")
    log_price = (
        12.6 + np.array([_BRANDS[b] for b in brand]) + 0.9 * np.log(power / 75) - 0.11 * (2020 - year)
        - 0.08 * np.log(km / 50_000) + 0.05 * (trim - 2) + 0.02 * (model - 5) + 0.15 * (gear == "Automatic")
        + 0.1 * (fuel == "Diesel") - 0.06 * (owner != "First Owner") + 0.16 * rng.normal(size=n)
    )  # fmt: skip
    price = np.exp(log_price).round(-3).astype(int)
    parsed = pd.DataFrame(
        {
            "brand": brand, "model": np.array(_MODELS)[model], "trim": np.array(_TRIMS)[trim], "year": year,
            "km_driven": km, "fuel": fuel, "seller_type": seller, "transmission": gear, "owner": owner,
            "mileage": mileage, "gas": gas.astype(int), "engine": engine, "max_power": power, "torque": torque,
            "turns": turns, "seats": seats, "selling_price": price,
        }
    )  # fmt: skip
    by_weight = rng.random(n) < 0.15
    told = [
        f"{t / 9.80665:.1f}@ {r:,}(kgm@ rpm)" if w else f"{t:.0f}Nm@ {r}rpm"
        for t, r, w in zip(torque, turns, by_weight, strict=True)
    ]  # fmt: skip
    table = pd.DataFrame(
        {
            "name": parsed["brand"] + " " + parsed["model"] + " " + parsed["trim"], "year": year,
            "selling_price": price, "km_driven": km, "fuel": fuel, "seller_type": seller, "transmission": gear,
            "owner": owner, "mileage": [f"{m} {'km/kg' if g else 'kmpl'}" for m, g in zip(mileage, gas, strict=True)],
            "engine": [f"{e} CC" for e in engine], "max_power": [f"{p} bhp" for p in power], "torque": told,
            "seats": seats,
        }
    )  # fmt: skip
    empty = rng.random(n) < 0.027  # as there: whole groups of cells
    table.loc[empty, ["mileage", "engine", "max_power", "torque", "seats"]] = np.nan
    parsed.loc[empty, ["mileage", "engine", "max_power", "torque", "turns", "seats"]] = np.nan
    return table, parsed


if __name__ == "__main__":
    used_cars()[0].to_csv(sys.argv[1], index=False)
