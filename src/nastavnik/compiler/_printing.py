"""Kernels as C: one function that takes some networks through some steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nastavnik.compiler._expressions import Buffer, Constant, Expression, Load, Position, Strides, leaves
from nastavnik.compiler._kernels import Kernel, Loop, Product, Reduction
from nastavnik.compiler._lowering import TYPES, Lowered

_ALIGNMENT = 64  # bytes

_HEAD = """
/* networks first…last-1, each through all steps; argument i of network k at step s lies at
   base[i] + k·by_network[i] + part[k]·by_part[i] + s·by_step[i]; not 0 if an index was out of range */
int run(I first, I last, I steps, char *const *base, const I *by_network, const I *by_part, const I *by_step,
        const I *part, char *scratch) {
  int bad = 0;
  for (I k = first; k < last; k++) for (I s = 0; s < steps; s++) {
"""


def c_source(lowered: Lowered, header: str, wide: bool) -> tuple[str, int]:
    """The program's text, and the bytes of scratch memory that it needs for each thread.

    ``header`` is the text of ``step.h``; ``wide`` says that matrices are of double precision.
    """
    lines = [f"typedef {'double' if wide else 'float'} T;", header, _HEAD]
    every = [*lowered.arguments, *lowered.constants]
    for i, buffer in enumerate(every):
        c = TYPES[buffer.dtype]
        place = f"base[{i}] + k * by_network[{i}] + part[k] * by_part[{i}] + s * by_step[{i}]"
        lines.append(f"    {c} *{buffer.name} = ({c} *)({place});")
    places, size = _arranged(lowered.kernels)
    for buffer, offset in places.items():
        c = TYPES[buffer.dtype]
        lines.append(f"    {c} *{buffer.name} = ({c} *)(scratch + {offset});")
    for kernel in lowered.kernels:
        lines += ["    " + line for line in _printed(kernel)]
    lines.append("  }\n  return bad;\n}")
    return "\n".join(lines) + "\n", size


def _arranged(kernels: Sequence[Kernel]) -> tuple[dict[Buffer, int], int]:
    """Offsets of the scratch buffers; what is no longer read makes room for what comes."""
    last: dict[Buffer, int] = {}
    for number, kernel in enumerate(kernels):
        for load in (*kernel.reads(), *kernel.writes()):
            if load.buffer.kind == "scratch":
                last[load.buffer] = number
    free: list[tuple[int, int]] = []  # (offset, bytes)
    places: dict[Buffer, int] = {}
    end = 0
    for number, kernel in enumerate(kernels):
        for buffer in dict.fromkeys(t.buffer for t in kernel.writes() if t.buffer.kind == "scratch"):
            if buffer in places:
                continue
            need = -(-max(buffer.size, 1) * buffer.dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
            fits = [hole for hole in free if hole[1] >= need]
            if fits:
                offset, room = min(fits, key=lambda hole: hole[1])
                free.remove((offset, room))
                if room > need:
                    free.append((offset + need, room - need))
            else:
                offset, end = end, end + need
            places[buffer] = offset
        for buffer in [b for b in places if last[b] == number]:
            need = -(-max(buffer.size, 1) * buffer.dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
            free = _joined([*free, (places[buffer], need)])
    return places, end


def _joined(holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbouring holes as one."""
    result: list[tuple[int, int]] = []
    for offset, size in sorted(holes):
        if result and sum(result[-1]) == offset:
            result[-1] = (result[-1][0], result[-1][1] + size)
        else:
            result.append((offset, size))
    return result


def _printed(kernel: Kernel) -> list[str]:
    if isinstance(kernel, Product):
        return _product(kernel)
    return _Nest.of_loop(kernel) if isinstance(kernel, Loop) else _Nest.of_reduction(kernel)


def _product(p: Product) -> list[str]:
    count, m, k, n = p.sizes
    a, b = p.left, p.right

    def at(load: Load, stride: int) -> str:
        step = f" + c * {stride}" if count > 1 else ""
        return f"{load.buffer.name} + {load.offset}{step}"

    call = (
        f"product({m}, {n}, {k}, {at(a, a.strides[0])}, {a.strides[1]}, {a.strides[2]}, "
        f"{at(b, b.strides[0])}, {b.strides[1]}, {b.strides[2]}, {at(p.target, m * n)}, {p.pack.name});"
    )
    return [f"for (I c = 0; c < {count}; c++) {call}" if count > 1 else call]


class _Nest:
    """The printing of one nest of loops; every statement stands in the outermost loop where it can."""

    def __init__(self, sizes: list[int], groups: list[list[int]]) -> None:
        self.sizes = sizes  # of the nest's loops, outermost first
        self.groups = groups  # the dimensions of the shape that each loop runs over together
        self.statements: list[list[str]] = [[] for _ in range(len(sizes) + 1)]
        self.known: dict[Expression, tuple[str, int]] = {}
        self.stored: dict[tuple[str, Strides, int], tuple[str, int]] = {}

    @classmethod
    def of_loop(cls, loop: Loop) -> list[str]:
        """A loop over all elements."""
        affine = [leaf for store in loop.stores for leaf in (store.target, *leaves(store.value))]
        affine += [leaf for store in loop.stores for i, _ in store.target.index for leaf in leaves(i)]
        order = _order(loop.shape, [loop.stores[0].target, *affine])
        nest = cls(*_collapsed(loop.shape, order, affine))
        last: list[str] = []
        for store in loop.stores:
            name, _ = nest.emit(store.value)
            if store.target.buffer.kind == "register":
                nest.stored[(store.target.buffer.name, store.target.strides, store.target.offset)] = nest.known_at(name)
                continue
            if store.target.buffer.kind == "scratch" and not store.adds:
                nest.stored[(store.target.buffer.name, store.target.strides, store.target.offset)] = nest.known_at(name)
            last.append(f"{nest.place(store.target)} {'+=' if store.adds else '='} {name};")
        nest.statements[-1] += last
        free = not any(nest.depends_on_innermost(index) for s in loop.stores for index, _ in s.target.index)
        free = free and not any(s.adds and nest.depth(s.target.strides) < len(nest.sizes) for s in loop.stores)
        return nest.text("#pragma omp simd" if free else "")

    @classmethod
    def of_reduction(cls, r: Reduction) -> list[str]:
        """A loop over the kept dimensions with one over the reduced inside; or, along rows, the other way round."""
        affine: list[Load | Position] = [r.target, *leaves(r.value)]
        rank = len(r.shape)
        order = _order(r.shape, list(leaves(r.value)) or [r.target])
        inner = next((d for d in reversed(order) if r.shape[d] > 1), rank - 1)
        start = {"sum": "0", "largest": "-__builtin_inf()", "smallest": "__builtin_inf()"}[r.kind]
        c = TYPES[r.target.dtype]
        if rank == 0 or r.reduced[inner]:
            outer = [d for d in order if not r.reduced[d]]
            nest = cls(*_collapsed(r.shape, [*outer, *[d for d in order if r.reduced[d]]], affine, r.reduced))
            depth = sum(1 for g in nest.groups if not r.reduced[g[0]])
            nest.statements[depth].append(f"{c} sum = {start};")
            name, _ = nest.emit(r.value)
            nest.statements[-1].append(_accumulated(r.kind, "sum", name))
            after = f"{nest.place(r.target, depth)} = sum;"
            return nest.text("#pragma omp simd reduction(+:sum)" if r.kind == "sum" else "", depth, after)
        outer = [d for d in order if not r.reduced[d] and d != inner]
        reduced = [d for d in order if r.reduced[d]]
        nest = cls([r.shape[d] for d in (*outer, *reduced, inner)], [[d] for d in (*outer, *reduced, inner)])
        place = nest.place(r.target)
        j = f"i{len(nest.sizes) - 1}"
        nest.statements[len(outer)].append(f"for (I {j} = 0; {j} < {r.shape[inner]}; {j}++) {place} = {start};")
        name, _ = nest.emit(r.value)
        nest.statements[-1].append(_accumulated(r.kind, place, name))
        return nest.text("#pragma omp simd")

    def text(self, pragma: str, after_depth: int = -1, after: str = "") -> list[str]:
        """The whole nest."""
        lines = ["{"]
        for depth in range(len(self.sizes) + 1):
            lines += self.statements[depth]
            if depth < len(self.sizes):
                if depth == len(self.sizes) - 1 and pragma:
                    lines.append(pragma)
                lines.append(f"for (I i{depth} = 0; i{depth} < {self.sizes[depth]}; i{depth}++) {{")
        for depth in range(len(self.sizes), -1, -1):
            if depth == after_depth:
                lines.append(after)
            lines.append("}")
        return lines

    def known_at(self, name: str) -> tuple[str, int]:
        """A variable and the depth where it is defined."""
        for found, depth in self.known.values():
            if found == name:
                return found, depth
        return name, 0

    def emit(self, e: Expression) -> tuple[str, int]:
        """The variable that holds an expression's value, and the depth from which it does."""
        if e in self.known:
            return self.known[e]
        if isinstance(e, Constant):
            result = _literal(e), 0
        elif isinstance(e, Load) and (e.buffer.name, e.strides, e.offset) in self.stored and not e.index:
            result = self.stored[(e.buffer.name, e.strides, e.offset)]
        else:
            if isinstance(e, Position):
                text, depth = f"({TYPES[e.dtype]})({self.affine(e.strides, e.offset)})", self.depth(e.strides)
            elif isinstance(e, Load):
                indices = [self.emit(index) for index, _ in e.index]
                text = self.place(e)
                depth = max([self.depth(e.strides), *(d for _, d in indices)])
            else:
                arguments = [self.emit(a) for a in e.arguments]
                text = e.form.format(*(name for name, _ in arguments))
                depth = max((d for _, d in arguments), default=0)
            name = f"v{len(self.known)}"
            c = "int" if e.dtype == torch.bool else TYPES[e.dtype]
            self.statements[depth].append(f"const {c} {name} = {text};")
            result = name, depth
        self.known[e] = result
        return result

    def place(self, load: Load, most: int | None = None) -> str:
        """``buffer[…]``, with the nest's first ``most`` loops only where the rest do not matter."""
        text = self.affine(load.strides, load.offset)
        for index, stride in load.index:
            name, _ = self.emit(index)
            text += f" + {name} * {stride}"
        return f"{load.buffer.name}[{text}]"

    def affine(self, strides: Strides, offset: int) -> str:
        """Offset plus strides times the nest's indices."""
        parts = [str(offset)] if offset else []
        for number, group in enumerate(self.groups):
            step = strides[group[-1]]
            if step and self.sizes[number] > 1:
                parts.append(f"i{number}" if step == 1 else f"i{number} * {step}")
        return " + ".join(parts) or "0"

    def depth(self, strides: Strides) -> int:
        """From how deep in the nest an affine place is settled."""
        deep = [n + 1 for n, g in enumerate(self.groups) if strides[g[-1]] and self.sizes[n] > 1]
        return max(deep, default=0)

    def depends_on_innermost(self, e: Expression) -> bool:
        """Whether the value changes along the innermost loop."""
        return any(self.depth(leaf.strides) == len(self.sizes) for leaf in leaves(e))


def _accumulated(kind: str, into: str, value: str) -> str:
    if kind == "sum":
        return f"{into} += {value};"
    sign = ">" if kind == "largest" else "<"
    return f"{into} = ({into} != {into} || {into} {sign} {value}) ? {into} : {value};"


def _order(shape: Sequence[int], leading: Sequence[Load | Position]) -> list[int]:
    """Dimensions with the farthest strides first, by the first leaf that tells two of them apart."""
    return sorted(range(len(shape)), key=lambda d: tuple(-abs(leaf.strides[d]) for leaf in leading))


def _collapsed(
    shape: Sequence[int], order: Sequence[int], affine: Sequence[Load | Position], apart: Sequence[bool] = ()
) -> tuple[list[int], list[list[int]]]:
    """Loops over an ordered shape: neighbours that lie one behind the other in every leaf run as one.

    ``apart``: dimensions that differ in this never run as one.
    """
    groups: list[list[int]] = []
    sizes: list[int] = []
    for d in order:
        if shape[d] == 1:
            continue
        before = groups[-1][-1] if groups else -1
        together = groups and not (apart and apart[before] != apart[d])
        if together and all(leaf.strides[before] == leaf.strides[d] * shape[d] for leaf in affine):
            groups[-1].append(d)
            sizes[-1] *= shape[d]
        else:
            groups.append([d])
            sizes.append(shape[d])
    return sizes, groups


def _literal(c: Constant) -> str:
    """A constant in C."""
    if c.dtype == torch.bool:
        return str(int(c.value))
    if not c.dtype.is_floating_point:
        return f"({c.value})" if c.dtype == torch.int32 else f"({c.value}L)"
    suffix = "f" if c.dtype == torch.float32 else ""
    value = float(c.value)
    if value != value:
        return f'__builtin_nan{suffix}("")'
    if value in (float("inf"), float("-inf")):
        return f"({'-' if value < 0 else ''}__builtin_inf{suffix}())"
    return f"({value!r}{suffix})"
