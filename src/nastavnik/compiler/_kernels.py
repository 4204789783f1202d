"""What a step does, one after the other: loops, reductions and matrix products over buffers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from nastavnik.compiler._expressions import Buffer, Expression, Load, leaves


@dataclass(frozen=True)
class Store:
    """``target = value``, or ``target += value``."""

    target: Load
    value: Expression
    adds: bool = False


@dataclass
class Loop:
    """For every index of ``shape``: all stores, in order."""

    shape: tuple[int, ...]
    stores: list[Store]

    def reads(self) -> Iterator[Load]:
        """Every load."""
        for store in self.stores:
            yield from (leaf for leaf in leaves(store.value) if isinstance(leaf, Load))
            for index, _ in store.target.index:
                yield from (leaf for leaf in leaves(index) if isinstance(leaf, Load))
            if store.adds:
                yield store.target

    def writes(self) -> Iterator[Load]:
        """Every target."""
        yield from (store.target for store in self.stores)


@dataclass
class Reduction:
    """``target`` = sum, largest or smallest of ``value`` over the dimensions where ``reduced``."""

    shape: tuple[int, ...]
    reduced: tuple[bool, ...]
    kind: str
    value: Expression
    target: Load

    def reads(self) -> Iterator[Load]:
        """Every load."""
        yield from (leaf for leaf in leaves(self.value) if isinstance(leaf, Load))

    def writes(self) -> Iterator[Load]:
        """The target."""
        yield self.target


@dataclass
class Product:
    """``target[c, m, n] = Σ_k left[c, m, k] · right[c, k, n]``; loads have one stride a dimension."""

    sizes: tuple[int, int, int, int]  # c, m, k, n
    left: Load
    right: Load
    target: Load
    pack: Buffer = field(repr=False)  # room to lay ``right`` out anew

    def reads(self) -> Iterator[Load]:
        """Both factors."""
        yield self.left
        yield self.right

    def writes(self) -> Iterator[Load]:
        """The product, and the room it needs."""
        yield self.target
        yield Load(self.pack, ())


Kernel = Loop | Reduction | Product


def merged(kernels: list[Kernel]) -> list[Kernel]:
    """The same kernels with loops over one shape run as one, where the second reads the first's results in place.

    A loop moves down to the first kernel that reads what it writes; nothing in between can notice.
    """
    done: list[Kernel] = []
    for kernel in reversed(kernels):
        if isinstance(kernel, Loop):
            place = _partner(kernel, done)
            if place is not None:
                partner = done[place]
                assert isinstance(partner, Loop)
                done[place] = Loop(kernel.shape, kernel.stores + partner.stores)
                continue
        done.insert(0, kernel)
    return _without_dead_stores(done)


def _partner(loop: Loop, later: list[Kernel]) -> int | None:
    """Where among later kernels a loop can join; ``later`` is in order."""
    written = {target.buffer for target in loop.writes()}
    read = {load.buffer for load in loop.reads()}
    if any(store.adds or store.target.index for store in loop.stores):
        return None
    for place, kernel in enumerate(later):
        touches = any(load.buffer in written for load in kernel.reads())
        spoils = any(target.buffer in read | written for target in kernel.writes())
        if not touches and not spoils:
            continue
        return place if isinstance(kernel, Loop) and _in_step(loop, kernel) else None
    return None


def _in_step(first: Loop, second: Loop) -> bool:
    """Whether two loops may share one body: what either writes, the other touches only at the very same element."""
    if first.shape != second.shape or any(store.adds or store.target.index for store in second.stores):
        return False
    for one, other in ((first, second), (second, first)):
        places = {t.buffer: (t.strides, t.offset) for t in one.writes()}
        for load in (*other.reads(), *other.writes()):
            if load.buffer in places and (load.index or (load.strides, load.offset) != places[load.buffer]):
                return False
    return True


def _without_dead_stores(kernels: list[Kernel]) -> list[Kernel]:
    """Stores to scratch that only their own loop's later stores read need not reach memory."""
    readers: dict[Buffer, set[int]] = {}
    for number, kernel in enumerate(kernels):
        for load in kernel.reads():
            readers.setdefault(load.buffer, set()).add(number)
    for number, kernel in enumerate(kernels):
        if isinstance(kernel, Loop):
            kernel.stores = [
                Store(store.target, store.value, store.adds)
                if store.target.buffer.kind != "scratch" or readers.get(store.target.buffer, set()) - {number}
                else Store(
                    Load(_registers(store.target.buffer), store.target.strides, store.target.offset), store.value
                )
                for store in kernel.stores
            ]
    return kernels


def _registers(buffer: Buffer) -> Buffer:
    return Buffer(buffer.name, buffer.dtype, buffer.size, "register")
