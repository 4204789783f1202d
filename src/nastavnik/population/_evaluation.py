"""What networks say in evaluation mode, so many rows at a time that the temporaries stay small."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.func import functional_call, vmap

from nastavnik.nets import Function
from nastavnik.population._data import Data
from nastavnik.population._learner import Learner
from nastavnik.population._memory import evaluation_rows, ran_out_of_memory
from nastavnik.rooms import touched
from nastavnik.training.likelihoods import Likelihood
from nastavnik.training.optimizers import Tensors

_INPUTS = 2**24  # bytes of inputs that are copied at a time
_LIKELIHOOD = "likelihood."  # what the likelihood's tensors are called inside a learner
Inputs = tuple[torch.Tensor, ...]


class _Mistaken(nn.Module):
    """A likelihood whose call tells how wrong rows are."""

    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        self.likelihood = likelihood

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return self.likelihood.mistake(outputs, targets, weights)


class Evaluation:
    """The forward passes of networks of one architecture.

    Args:
        learner: the module whose code runs.
        shared: tensors that all networks have in common.
        data: what they are validated on.
    """

    def __init__(self, learner: Learner, shared: Tensors, data: Data) -> None:
        self.learner, self.shared, self.data = copy.deepcopy(learner).eval(), shared, data
        self._function = Function(self.learner)
        self._rows_at_once: dict[int, int] = {}
        self._batches = not learner.draws

    def predict(self, tensors: Tensors, inputs: Inputs, *, own: bool, block: int) -> torch.Tensor:
        """Outputs [K, n, o] of networks with these tensors [K, …].

        Args:
            tensors: parameters and buffers.
            inputs: what the module takes [n, …], the same for all; with ``own``, [K, n, …].
            own: whether each network has inputs of its own.
            block: networks in one call; 1 for one after the other, without vmap.
        """
        count = len(next(iter(tensors.values())))
        found: torch.Tensor | None = None
        for start in range(0, count, block):
            few = slice(start, min(start + block, count))
            mine = {name: t[few] for name, t in tensors.items()}
            for rows, outputs in self._some(mine, tuple(t[few] for t in inputs) if own else inputs, own, block):
                if found is None:
                    found = outputs.new_empty((count, inputs[0].shape[1 if own else 0], *outputs.shape[2:]))
                found[few, rows] = outputs
        assert found is not None
        return found

    def profiles(self, tensors: Tensors, part: torch.Tensor, *, block: int, training: bool = False) -> torch.Tensor:
        """Each network's loss on its part's validation rows at each temperature [K, T]; ``part`` [K].

        ``training``: on the training rows instead.
        """
        rows = self.data.training_rows() if training else self.data.validation_rows()
        scores = []
        for start in range(0, len(part), block):
            few = slice(start, start + block)
            mine = {name: t[few] for name, t in tensors.items()}
            index = rows[part[few]]
            outputs = self._outputs(mine, part[few], index, block)
            targets = self.data.targets[part[few, None], index]
            scores.append(self._score(mine, outputs, targets, self._weights(index)))
        return torch.cat(scores)

    def errors(self, tensors: Tensors, part: torch.Tensor, *, block: int) -> torch.Tensor:
        """Each network's error on its part's validation rows [K]: share of wrong classes, or root mean square."""
        rows = self.data.validation_rows()
        found = []
        for start in range(0, len(part), block):
            few = slice(start, start + block)
            mine = {name: t[few] for name, t in tensors.items()}
            index = rows[part[few]]
            outputs = self._outputs(mine, part[few], index, block)
            targets = self.data.targets[part[few, None], index]
            found.append(self._error(mine, outputs, targets, self._weights(index)))
        return torch.cat(found)

    def _weights(self, rows: torch.Tensor) -> torch.Tensor:
        """Of rows [K, n], with mean 1."""
        if self.data.weights is None:
            return torch.ones(rows.shape, device=rows.device)
        own = self.data.weights[rows]
        return own / own.mean(1, keepdim=True)

    def _error(
        self, tensors: Tensors, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        mistaken = _Mistaken(self.learner.likelihood)

        def one(own: Tensors, o: torch.Tensor, t: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            return functional_call(mistaken, {f"likelihood.{n}": v for n, v in own.items()}, (o, t, w))

        named = {n.removeprefix(_LIKELIHOOD): t for n, t in tensors.items() if n.startswith(_LIKELIHOOD)}
        with torch.no_grad():
            return vmap(one)(named, outputs, targets, weights)

    def _outputs(self, tensors: Tensors, part: torch.Tensor, rows: torch.Tensor, block: int) -> torch.Tensor:
        one = self.data.parts == 1
        size = self._rows_in_memory(1 if one else len(part), self._rows(min(block, len(part))))
        found = []
        for start in range(0, rows.shape[1], size):
            few = rows[:, start : start + size]
            if one:
                inputs, _ = self.data.rows_of(0, few[0])
            else:
                inputs = tuple(t[part[:, None], few] for t in self.data.inputs)
                touched(sum(t.nbytes for t in inputs))
            found.append(self.predict(tensors, inputs, own=not one, block=block))
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def _rows_in_memory(self, networks: int, step: int) -> int:
        """How many rows of inputs are held at a time for so many networks: whole passes of ``step`` rows."""
        row = sum(t[0, :1].numel() * t.itemsize for t in self.data.inputs)
        return step * max(1, _INPUTS // max(1, row * networks * step))

    def _some(self, tensors: Tensors, inputs: Inputs, own: bool, block: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """One block's outputs, rows by rows."""
        count = len(next(iter(tensors.values())))

        def one(weights: Tensors, given: Inputs) -> torch.Tensor:
            return self._function({**self.shared, **weights}, given)

        size, step = inputs[0].shape[1 if own else 0], self._rows(count)
        with torch.no_grad():
            for start in range(0, size, step):
                rows = slice(start, start + step)
                given = tuple(t[:, rows] if own else t[rows] for t in inputs)
                if block == 1:
                    alone = tuple(t[0] for t in given) if own else given
                    yield rows, one({name: t[0] for name, t in tensors.items()}, alone)[None]
                else:
                    yield rows, self._together(one, tensors, given, own)

    def _together(
        self, one: Callable[[Tensors, Inputs], torch.Tensor], tensors: Tensors, given: Inputs, own: bool
    ) -> torch.Tensor:
        """All networks of a block under vmap; one by one where vmap cannot run what the module does."""
        if self._batches:
            try:
                return vmap(one, in_dims=(0, 0 if own else None))(tensors, given)
            except Exception as error:  # if it is the module's own, it comes again
                if ran_out_of_memory(error):
                    raise
                self._batches = False
        count = len(next(iter(tensors.values())))
        each = [({n: t[k] for n, t in tensors.items()}, tuple(t[k] if own else t for t in given)) for k in range(count)]
        return torch.stack([one(weights, rows) for weights, rows in each])

    def _rows(self, networks: int) -> int:
        if networks not in self._rows_at_once:
            self._rows_at_once[networks] = evaluation_rows(self.learner, self.data, networks)
        return self._rows_at_once[networks]

    def _score(
        self, tensors: Tensors, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Likelihoods are our own modules, which vmap can always run."""
        weighed = self.data.weights is not None

        def one(own: Tensors, o: torch.Tensor, t: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            return functional_call(self.learner.likelihood, own, (o, t, w) if weighed else (o, t))

        named = {n.removeprefix(_LIKELIHOOD): t for n, t in tensors.items() if n.startswith(_LIKELIHOOD)}
        with torch.no_grad():
            return vmap(one)(named, outputs, targets, weights)
