"""The operations a function performs on tensors, recorded while it runs once on examples."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nastavnik.compiler._expressions import NotCompilable


@dataclass(eq=False)
class Tensor:
    """One tensor of the recording: an argument, a constant, or a result; ``users`` counts where it is used."""

    example: torch.Tensor
    users: int = 0


_HEAVY = ("convolution",)  # what is not lowered, and what comes of it is large


@dataclass
class Operation:
    """One aten operation; among ``arguments`` tensors are stood for by ``Tensor``."""

    name: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    results: list[Tensor | None]  # None for what was not asked for


@dataclass
class Recording:
    """A function as a list of operations without changes in place."""

    arguments: list[Tensor]
    constants: list[Tensor] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


def record(
    function: Callable[..., Sequence[torch.Tensor]],
    examples: Sequence[torch.Tensor],
    whole: Collection[str],
    *,
    only: bool = False,
) -> Recording:
    """Run ``function(*examples)`` once and write down what happens to tensors.

    What the function changes in place (batch normalization its running statistics) is changed in the examples.
    Operations not named in ``whole`` are broken down as far as PyTorch can; with ``only`` a heavy one that cannot be
    ends the recording, which would hold all that the function makes.

    Raises:
        NotCompilable: the function asks for the value of a tensor, or such an operation.
    """
    try:
        recorder = _Recorder(examples, whole, only)
        with recorder:
            outputs = function(*examples)
        recording = recorder.recording
        recording.outputs = [recorder.known(t) for t in outputs]
    except NotCompilable:
        raise
    except Exception as error:  # what the function does may fail in any way
        raise NotCompilable(f"tracing: {(str(error).strip() or type(error).__name__).splitlines()[0]}") from error
    _count(recording)
    return recording


def product_flops(function: Callable[..., torch.Tensor], examples: Sequence[torch.Tensor]) -> float:
    """Floating-point operations of a function's matrix products and convolutions; infinite if it cannot be recorded."""
    try:
        recording = record(
            lambda *given: [function(*given)], examples, {"mm", "addmm", "bmm", "baddbmm", "convolution"}
        )
    except NotCompilable:
        return float("inf")
    total = 0.0
    for operation in recording.operations:
        out = sum(r.example.numel() for r in operation.results if r)
        factors = [t.example for t in operation.arguments if isinstance(t, Tensor)]
        if operation.name == "convolution":
            total += 2.0 * out * factors[1][0].numel()
        elif operation.name in ("mm", "bmm"):
            total += 2.0 * out * factors[0].shape[-1]
        elif operation.name in ("addmm", "baddbmm"):
            total += 2.0 * out * factors[1].shape[-1]
    return total


def peak_bytes(function: Callable[..., Sequence[torch.Tensor]], examples: Sequence[torch.Tensor]) -> int:
    """Bytes of the results that live at one time while a function runs, each from its birth to its last use."""
    recording = record(function, examples, _Everything())
    kept = {t.example.untyped_storage().data_ptr() for t in recording.outputs}
    given = {t.example.untyped_storage().data_ptr() for t in (*recording.arguments, *recording.constants)}
    last: dict[int, int] = {}
    for number, operation in enumerate(recording.operations):
        for t in (*_tensors([operation.arguments, operation.options]), *filter(None, operation.results)):
            last[t.example.untyped_storage().data_ptr()] = number
    live: dict[int, int] = {}
    peak = 0
    for number, operation in enumerate(recording.operations):
        for t in filter(None, operation.results):
            storage = t.example.untyped_storage()
            if storage.data_ptr() not in given:
                live[storage.data_ptr()] = storage.nbytes()
        peak = max(peak, sum(live.values()))
        live = {place: size for place, size in live.items() if place in kept or last[place] > number}
    return peak


def check_same(one: Recording, other: Recording) -> None:
    """Refuse a function that computed something else in another recording, of other numbers.

    Raises:
        NotCompilable: operations differ, or tensors that it brought along.
    """
    kept = [[t.example for t in r.constants if t.users] for r in (one, other)]
    same = len(kept[0]) == len(kept[1]) and all(
        a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())
        for a, b in zip(*kept, strict=True)
    )
    if not same or _plan(one) != _plan(other):
        raise NotCompilable("the values of tensors decide what is computed")


def _plan(recording: Recording) -> list[Any]:
    """The operations with numbers for tensors."""
    known = [*recording.arguments, *(t for t in recording.constants if t.users)]
    numbers = {id(t): i for i, t in enumerate(known)}
    plan: list[Any] = []
    for operation in recording.operations:
        given = _replaced_by(operation.arguments, numbers), _replaced_by(operation.options, numbers)
        for r in filter(None, operation.results):
            numbers[id(r)] = len(numbers)
        plan.append((operation.name, *given, [r and (numbers[id(r)], r.example.shape) for r in operation.results]))
    return [*plan, [numbers[id(t)] for t in recording.outputs]]


def _replaced_by(value: Any, numbers: dict[int, int]) -> Any:
    if isinstance(value, Tensor):
        return "tensor", numbers[id(value)]
    if isinstance(value, dict):
        return {name: _replaced_by(v, numbers) for name, v in value.items()}
    return [_replaced_by(v, numbers) for v in value] if isinstance(value, (list, tuple)) else value


class _Everything(frozenset[str]):
    """Names all operations."""

    def __contains__(self, name: object) -> bool:
        return True


class _Recorder(TorchDispatchMode):
    def __init__(self, arguments: Sequence[torch.Tensor], whole: Collection[str], only: bool) -> None:
        super().__init__()
        self._only = only
        self.recording = Recording([Tensor(t) for t in arguments])
        self._known = {id(t.example): t for t in self.recording.arguments}
        self._whole = whole
        self._sharing = Counter(t.untyped_storage().data_ptr() for t in arguments)  # tensors on one piece of memory
        self._lifted: list[torch.Tensor] = []  # kept, as they are known by their ids

    def _check_alone(self, name: str, tensor: torch.Tensor) -> None:
        """Refuse a change in place that other tensors would see."""
        outside = (*self.recording.arguments, *self.recording.constants)
        shared = self._sharing[tensor.untyped_storage().data_ptr()] > 1 or any(tensor is t.example for t in outside)
        if not name.endswith("_") or shared:
            raise NotCompilable(f"a change in place of a tensor that others look at ({name})")

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Where PyTorch asks: else it imports its own compiler, a second's work, to leave us out of it."""
        return False

    def known(self, tensor: torch.Tensor) -> Tensor:
        """What stands for a tensor; one never seen before is a constant."""
        if id(tensor) not in self._known:
            self._known[id(tensor)] = Tensor(tensor)
            self.recording.constants.append(self._known[id(tensor)])
            self._sharing[tensor.untyped_storage().data_ptr()] += 1
        return self._known[id(tensor)]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise NotCompilable("the value of a tensor decides what is computed")
        name = func.overloadpacket.__name__
        if name == "lift_fresh":  # a constant made just now: the same as one that was there before
            self._lifted.append(func(*args, **options))
            self._known[id(self._lifted[-1])] = self.known(args[0])
            return self._lifted[-1]
        if name.removesuffix("_") not in self._whole:
            with self:
                decomposed = func.decompose(*args, **options)
                if decomposed is NotImplemented and func in _decompositions():
                    decomposed = _decompositions()[func](*args, **options)
            if decomposed is not NotImplemented:
                return decomposed
            if self._only and name in _HEAVY:
                raise NotCompilable(f"the operation {name}")
        given = _replaced(args, self.known), _replaced(options, self.known)
        changes = func._schema.is_mutable
        if changes:
            self._check_alone(name, args[0])
            name = name.removesuffix("_")
        result = func(*args, **options)
        several = result if isinstance(result, (tuple, list)) else [result]
        results = [Tensor(t) if isinstance(t, torch.Tensor) else None for t in several]
        for r in filter(None, results):  # an operation in place gives the tensor back: from now on it is the new one
            self._known[id(r.example)] = r
            if not changes:
                self._sharing[r.example.untyped_storage().data_ptr()] += 1
        self.recording.operations.append(Operation(name, *given, results))
        return result


@functools.cache
def _decompositions() -> dict[Any, Callable[..., Any]]:
    """PyTorch's own ways to break rarer operations down; asked for when needed, as it takes a second to import."""
    return dict(torch.export.default_decompositions())


def _replaced(value: Any, known: Callable[[torch.Tensor], Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return known(value)
    if isinstance(value, dict):
        return {name: _replaced(v, known) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return (
            [_replaced(v, known) for v in value]
            if isinstance(value, list)
            else tuple(_replaced(v, known) for v in value)
        )
    return value


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in _tensors(v)] if isinstance(value, (list, tuple)) else []


def _count(recording: Recording) -> None:
    """Leave out what nothing uses, and count the uses of the rest."""
    for output in recording.outputs:
        output.users += 1
    needed = []
    for operation in reversed(recording.operations):
        if any(r.users for r in operation.results if r) or operation.name == "native_batch_norm":
            for t in _tensors([operation.arguments, operation.options]):
                t.users += 1
            needed.append(operation)
    recording.operations = needed[::-1]
