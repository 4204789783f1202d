"""What a module must be to be trained here, looked at before it is: said in a sentence where it is not."""

from __future__ import annotations

import traceback
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from nastavnik.errors import UserError
from nastavnik.nets import Conduct, name_of, observed, shown
from nastavnik.population._data import Data
from nastavnik.population._learner import Learner
from nastavnik.population._memory import ran_out_of_memory
from nastavnik.population._stacking import tensors_of

_ROWS = 16  # looked at
_PLAIN = (bool, int, float, str, type(None))


def check_tensors(learners: Sequence[Learner]) -> None:
    """Refuse weights that cannot be stacked and trained side by side.

    Raises:
        UserError: a tensor has no size or no values yet, is complex or sparse, or nothing is trained.
    """
    first = learners[0]
    network = name_of(first.network)
    if any(isinstance(m, torch.jit.ScriptModule) for m in first.modules()):
        raise UserError(
            f"the module {network} is scripted, and its weights cannot be given from outside; give the plain one"
        )
    for name, t in (*first.named_parameters(), *first.named_buffers()):
        own = shown(name)
        if isinstance(t, (UninitializedParameter, UninitializedBuffer)):
            raise UserError(f"{own} of the module {network} has no size yet; call the module once on a few rows before")
        if t.is_meta:
            raise UserError(
                f"{own} of the module {network} is on the device meta and has no values; initialize it before"
            )
        if t.layout != torch.strided:
            raise UserError(f"{own} of the module {network} is sparse; networks side by side need it dense: to_dense()")
        if t.requires_grad and t.is_complex():
            raise UserError(
                f"{own} of the module {network} is complex, and optimizers here move real numbers; keep it as a real "
                "parameter [..., 2] and use torch.view_as_complex of it in forward"
            )
        if t._backward_hooks or getattr(t, "_post_accumulate_grad_hooks", None):
            raise UserError(
                f"{own} of the module {network} has a hook, which would not be called; change the loss instead"
            )
    if not any(p.requires_grad for p in first.parameters()):
        raise UserError(f"the module {network} has no weights that are trained (parameters that require gradients)")
    shapes = {name: t.shape for name, t in tensors_of(first).items()}
    if any({name: t.shape for name, t in tensors_of(one).items()} != shapes for one in learners[1:]):
        raise UserError(
            "the networks of a population must be of one architecture: names or shapes of their weights differ"
        )


def check_alike(learners: Sequence[Learner], conduct: Conduct | None) -> None:
    """One module's code runs for all, so what is no parameter or buffer must be the same in all; not what calls set.

    Raises:
        UserError: it is not.
    """
    ignored = set(conduct.kept) if conduct else set()
    ignored |= set(getattr(learners[0].network, "conduct", Conduct()).kept)  # of one that forgets by itself
    first, *others = [
        [(f"{name}.{key}".lstrip("."), v) for name, m in one.network.named_modules() for key, v in _held(m)]
        for one in learners
    ]
    known = {name: value for name, value in first if name not in ignored}
    for other in others:
        for name, value in other:
            if name in known and not (type(value) is type(known[name]) and _equal(value, known[name])):
                raise UserError(
                    f"the networks of a population differ in {shown(name) or 'their class'}, which is no buffer, so "
                    "that one would be taken for all; make it a buffer (register_buffer), or train them apart"
                )


def _held(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """A module's class, and attributes that are numbers, words or plain tensors."""
    yield "", type(module).__qualname__
    for key, value in module.__dict__.items():
        if not key.startswith("_") and key != "training" and isinstance(value, (*_PLAIN, torch.Tensor)):
            yield key, value


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())
    return bool(a == b) or (a != a and b != b)


def set_conduct(learner: Learner, data: Data, batch: int, kin: Hashable = None) -> None:
    """Note how a network behaves on some of the data, in training and in evaluation; it is left in training.

    It is looked at unless one of its ``kin`` was.

    Raises:
        UserError: it cannot be run on it, gives no output a row, keeps what decides its answers, or no gradient reaches
            its weights.
    """
    count = min(batch, _ROWS)
    if kin is not None and (kin, count) in data.conducts:
        learner.conduct = data.conducts[kin, count]
        return
    some, others = (data.rows_of(0, rows[:count])[0] for rows in (data.train[0], data.train[0].flip(0)))
    conduct = Conduct()
    places = {name: p.detach() for name, p in learner.named_parameters()}  # held, so that no address is given anew
    for training in (False, True):
        learner.train(training)
        with torch.enable_grad() if training else torch.no_grad(), network_at_fault("it is looked at", learner):
            outputs, found = observed(learner.network, some, others)
            _check_outputs(outputs, count, learner)
            if training:
                _check_gradient(outputs, learner)
        conduct |= found
    for name, p in learner.named_parameters():
        if p.data_ptr() != places[name].data_ptr():
            raise UserError(
                f"the module {name_of(learner.network)} puts other values in place of its weights "
                f"{shown(name)} when it is called; use torch.nn.utils.parametrize, or change them in place"
            )
    learner.conduct = conduct if any(conduct) else None
    if kin is not None:
        data.conducts[kin, count] = learner.conduct


class network_at_fault:  # a context manager, which leaves no frame of its own
    """Says in a sentence what a module's own code raises; other errors, and memory that ran out, go on as they are."""

    def __init__(self, when: str, learner: Learner) -> None:
        self.when, self.learner = when, learner

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, Exception) or isinstance(error, UserError) or ran_out_of_memory(error):
            return
        codes = [frame.f_code for frame, _ in traceback.walk_tb(trace)][:-1]  # the last raised it
        if not any(code in _CALLING for code in codes):
            return
        lines = str(error).strip().splitlines()
        what = type(error).__name__ + (f": {lines[0]}" if lines else "")
        raise UserError(f"the module {name_of(self.learner.network)} fails when {self.when} ({what})") from error


def _check_outputs(outputs: Any, rows: int, learner: Learner) -> None:
    wanted = learner.likelihood.outputs
    shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if (
        not isinstance(outputs, torch.Tensor)
        or outputs.ndim < 2
        or outputs.shape[0] != rows
        or outputs.shape[-1] != wanted
    ):
        raise UserError(
            f"the module {name_of(learner.network)} must give {wanted} outputs a row, a tensor of shape "
            f"({rows}, {wanted}) for {rows} rows, but gave {shape}"
        )


def _check_gradient(outputs: torch.Tensor, learner: Learner) -> None:
    weights = [p for p in learner.network.parameters() if p.requires_grad]
    if not weights:
        return
    if not outputs.requires_grad:
        raise UserError(
            f"no gradient reaches the weights of the module {name_of(learner.network)}: its outputs are cut off from "
            "them (detach, no_grad, or made anew from numbers)"
        )
    torch.autograd.grad(outputs.sum(), weights, allow_unused=True)


_CALLING = {f.__code__ for f in (Learner.forward, observed, _check_gradient)}
