"""From a folder of pictures to a network: rings and crosses are drawn, fitted, and new ones predicted.

python examples/pictures.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import nastavnik


def drawn(kind: str, rng: np.random.Generator) -> Image.Image:
    """A ring or a cross somewhere on a noisy ground."""
    rows, columns = np.mgrid[:20, :20]
    centre, size = rng.uniform(7, 13, 2), rng.uniform(3, 6)
    away = np.stack([rows - centre[0], columns - centre[1]])
    if kind == "ring":
        ink = np.abs(np.hypot(*away) - size) < 1
    else:
        ink = (np.abs(away).min(0) < 1) & (np.abs(away).max(0) < size)
    return Image.fromarray(np.clip(90 * ink + rng.normal(80, 30, (20, 20)), 0, 255).astype(np.uint8))


def main() -> None:
    """A folder for each class; what is to be predicted lies in a folder without any."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        for kind in ("ring", "cross"):
            for i in range(150):
                path = Path(place, "shapes", kind, f"{i}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                drawn(kind, rng).save(path)
        run = nastavnik.fit(Path(place, "shapes"), out=Path(place, "run"), networks=6, folds=0)
        score = run.result["test"]["accuracy"]
        print(f"accuracy {score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})")
        Path(place, "new").mkdir()
        for i in range(4):
            drawn("ring" if i % 2 else "cross", rng).save(Path(place, "new", f"{i}.png"))
        print(nastavnik.predict(Path(place, "run"), Path(place, "new"), keep=["image"]).to_string())


if __name__ == "__main__":
    main()
