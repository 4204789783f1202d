"""What plain descent's entropy and the training rows say of the evidence, moment by moment."""

from __future__ import annotations

import torch
from torch.func import vmap

from nastavnik.noise import Noise
from nastavnik.population._evaluation import Evaluation
from nastavnik.population._step import State, weight_penalty
from nastavnik.training import Method
from nastavnik.training.likelihoods import TEMPERATURES
from nastavnik.training.optimizers import Tensors, decays
from nastavnik.training.regularizers import Batch, Context

_PLAIN = TEMPERATURES.index(1.0)


def descent_evidence(
    method: Method, state: State, settings: Tensors, evaluation: Evaluation, part: torch.Tensor, block: int
) -> torch.Tensor:
    """log p(D, w) + S of each network [K], nats, up to a constant of its start (Maclaurin et al. 2015).

    The joint density is that of the training rows and of the prior that the penalties on weights stand for; S is what
    ``optimizer.entropy`` has summed.
    """
    tensors = {**state.parameters, **state.buffers}
    losses = evaluation.profiles(tensors, part, block=block, training=True)[:, _PLAIN]
    rows = torch.tensor([len(rows) for rows in evaluation.data.train], device=part.device)[part]
    own = {n.removeprefix("regularization."): t for n, t in settings.items() if n.startswith("regularization.")}
    zero = torch.zeros((), dtype=torch.int32)
    nothing = Batch((), losses)

    def penalty(parameters: Tensors, strengths: Tensors, decay: torch.Tensor) -> torch.Tensor:
        context = Context(strengths, Noise(zero, zero))
        decayed = [p.square().sum() for p in parameters.values() if decays(p)]
        half = 0.5 * decay * torch.stack(decayed).sum() if decayed else 0.0 * decay
        return weight_penalty(method.regularizers, context, parameters, nothing) + half

    penalties = vmap(penalty)(state.parameters, own, settings["optimizer.weight_decay"])
    return state.optimizer["entropy/total"] - rows * (losses + penalties)
