"""What a population will take in memory, said before it is trained."""

from __future__ import annotations

from nastavnik.population._step import State


def state_bytes(state: State) -> int:
    """Parameters, buffers and optimizer slots of all networks."""
    return sum(t.numel() * t.itemsize for part in state for t in part.values())
