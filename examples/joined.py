"""A photo, a sentence, a number and a word in one table, each of which tells a part: one network reads all four.

python examples/joined.py
"""

from __future__ import annotations

import numpy as np
import pandas as pd

import nastavnik

COLOURS = {"red": (200, 40, 40), "green": (40, 160, 60), "blue": (50, 60, 200)}
MOODS = {"good": ("fine", "lovely", "pleasant", "charming"), "bad": ("poor", "dull", "shabby", "worn")}


def made(rows: int, seed: int = 0) -> pd.DataFrame:
    """Flats: the price grows with the photo's colour, the sentence's mood, the area and the district."""
    rng = np.random.default_rng(seed)
    colour = rng.choice(list(COLOURS), rows)
    mood = rng.choice(list(MOODS), rows)
    area = rng.uniform(20, 120, rows)
    district = rng.choice(["north", "south", "east"], rows)
    photos = [np.clip(rng.normal(COLOURS[c], 40, (12, 12, 3)), 0, 255).astype(np.uint8) for c in colour]
    notes = [f"this flat is {rng.choice(MOODS[m])} and the street is {rng.choice(['quiet', 'busy'])}" for m in mood]
    price = (
        40 * np.array([list(COLOURS).index(c) for c in colour])
        + 60 * (mood == "good")
        + 1.2 * (area - 70)
        + 50 * (district == "south")
        + rng.normal(0, 8, rows)
    )
    return pd.DataFrame({"photo": photos, "note": notes, "area": area, "district": district, "price": price})


def main() -> None:
    """Fit all together, then each column alone."""
    table = made(600)
    columns = ["photo", "note", "area", "district"]
    for some in (columns, *[[column] for column in columns]):
        run = nastavnik.fit(table[[*some, "price"]], target="price", networks=6, folds=0, settings={"epochs": 20})
        score = run.result["test"]["r2"]
        print(f"{' + '.join(some)}: R2 {score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})")


if __name__ == "__main__":
    main()
