"""What a network and its loss do inside, operation by operation: what is drawn, what is undefined, what is added up."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from nastavnik.mentor.probes._asked import Asked

_SAMPLES = ("normal", "randn")
_OWN = Path(__file__).parents[2]  # nastavnik's own code


def drawn(asked: Asked, modes: Mapping[nn.Module, bool] | None = None) -> str:
    """What kind of random numbers are drawn, in evaluation mode or others: a dropout's, a sample's, others', none."""
    with _Names() as seen:
        asked.outputs(modes=modes)
    if any("dropout" in name or "bernoulli" in name for name in seen.names):
        return "dropout"
    if any(word in name for name in seen.names for word in _SAMPLES):
        return "sample"
    return "others" if any("rand" in name or "uniform" in name for name in seen.names) else "none"


class _Names(TorchDispatchMode):
    """Writes down which operations run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


class FirstUndefined(TorchDispatchMode):
    """Finds the first operation that makes what is not finite of what is."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.found is not None or not _finite((args, kwargs)):
            return func(*args, **(kwargs or {}))
        said = func(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.").partition(".")[0]
        if not _finite(said) and not name.startswith(("empty", "new_empty", "full", "fill")):
            self.found = {"operation": name, "line": users_line()}
        return said


def users_line() -> str:
    """Where in the user's own code we are: the innermost line that is neither torch's nor ours."""
    library = Path(torch.__file__).parent
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if library not in path.parents and _OWN not in path.parents and path.suffix == ".py":
            return f"{path.name}, line {frame.lineno}: {frame.line}"
    return ""


def _finite(things: Any) -> bool:
    return all(
        bool(torch.isfinite(t).all())
        for t in tree_leaves(things)
        if isinstance(t, torch.Tensor) and t.is_floating_point() and t.numel()
    )


class Terms(TorchDispatchMode):
    """Takes down which single numbers a loss is the sum of, and by which operation each was made."""

    def __init__(self) -> None:
        super().__init__()
        self._added: dict[int, list[tuple[torch.Tensor, float]]] = {}  # what a sum was added up of, with its factor
        self._made: dict[int, str] = {}
        self._keep: list[torch.Tensor] = []  # alive, so that no number stands for two

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        said = func(*args, **(kwargs or {}))
        for one in said if isinstance(said, (tuple, list)) else (said,):
            if isinstance(one, torch.Tensor) and one.ndim == 0 and one.is_floating_point():
                self._keep.append(one)
                self._write(str(func).removeprefix("aten.").partition(".")[0], one, args, kwargs or {})
        return said

    def _write(self, name: str, said: torch.Tensor, args: Any, kwargs: Any) -> None:
        single = [a for a in args if isinstance(a, torch.Tensor)]
        numbers = [float(a) for a in args if isinstance(a, (int, float))]
        if name in ("add", "sub") and all(a.ndim == 0 for a in single):
            sign = float(kwargs.get("alpha", 1)) * (-1 if name == "sub" else 1)
            self._added[id(said)] = [(a, 1.0 if i == 0 else sign) for i, a in enumerate(single)]
        elif name in ("mul", "div") and len(single) == 1 and single[0].ndim == 0 and numbers:
            factor = numbers[0] if name == "mul" else 1 / numbers[0] if numbers[0] else 0.0
            self._added[id(said)] = [(single[0], factor)]
        self._made[id(said)] = name

    def of(self, loss: torch.Tensor) -> dict[str, float]:
        """The terms by name: the operation that made each, numbered where several have one; none of a single one."""
        found: list[tuple[str, float]] = []
        self._expand(loss, 1.0, found)
        if len(found) < 2:
            return {}
        names = [name for name, _ in found]
        return {f"{name} {i + 1}" if names.count(name) > 1 else name: value for i, (name, value) in enumerate(found)}

    def _expand(self, t: torch.Tensor, factor: float, found: list[tuple[str, float]]) -> None:
        parts = self._added.get(id(t), [])
        if not parts or len(found) > 16:
            found.append((self._made.get(id(t), "term"), factor * float(t)))
            return
        for part, own in parts:
            self._expand(part, factor * own, found)


def terms_of(loss: Callable[[], torch.Tensor]) -> dict[str, float]:
    """The terms that a loss is the sum of, asked without gradients."""
    with torch.no_grad(), Terms() as seen:
        value = loss()
        return seen.of(value) if value.ndim == 0 else {}
