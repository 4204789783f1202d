"""Watch a population train: one history a network, of everything its instruments see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from nastavnik.instruments import COSTS, appraise, data_facts, look, network_facts, observe, order_dispersion
from nastavnik.noise import Noise
from nastavnik.population import Batch, Learner, Population, State, weight_penalty
from nastavnik.recipe import Recipe
from nastavnik.trace import History
from nastavnik.training import NOISE
from nastavnik.training.likelihoods import Likelihood
from nastavnik.training.optimizers import Tensors
from nastavnik.training.regularizers import Context

LOOKS = 24  # at a whole training
_ROWS = 512  # of each part that are appraised
_BATCHES = 32  # whose order is looked at
_DEAR = 3  # every so many looks, the per-example and second-order instruments


def looks(total: int, count: int = LOOKS) -> list[int]:
    """When to look: at 0, 1, 2, 4, 8, … steps, then evenly, and at the end."""
    even = [round(total * (i + 1) / count) for i in range(count)]
    early = [0, *[2**i for i in range(12) if 2**i < even[0]]]
    return sorted({*early, *even})


def watch(
    population: Population, classes: int, *, count: int = LOOKS, dear: bool = True, first: int | None = None
) -> list[History]:
    """Train a population to its end, looking at every network on the way; a history a network.

    Args:
        population: at its start; candidates must not leave before the end (no patience).
        classes: how many the target has; 0 for numbers.
        count: looks, beside those at the very start.
        dear: whether the per-example and second-order instruments look too.
        first: look at so many networks only, and at the others once they are trained.
    """
    start = {name: t.clone() for name, t in population.state.parameters.items()}
    fixed = _fixed_rows(population)
    histories = [History(facts) for facts in _facts(population, classes)]
    subject = population.subject()
    method = population.training.method

    def measure(
        before: State, after: State, batch: Batch, settings: Tensors, began: Tensors, *rows: Any, costs: Sequence[str]
    ) -> Any:
        seen = observe(
            subject,
            before.parameters,
            after.parameters,
            began,
            before.buffers,
            batch.inputs,
            batch.targets,
            costs=costs,
            rows=min(32, len(batch.targets)),
        )
        own = {n.removeprefix("regularization."): t for n, t in settings.items() if n.startswith("regularization.")}
        step = torch.zeros((), dtype=torch.int32)
        context = Context(own, Noise(settings.get(NOISE, step), step))
        penalty = weight_penalty(method.regularizers, context, before.parameters, batch)
        seen["loss term"] = {"data": seen["batch loss"][""], "penalty": penalty}
        tensors = {**before.parameters, **before.buffers}
        judged = [judge(tensors, *subject.evaluation(tensors, *part), part[1]) for part in rows]
        return {"seen": seen, "training": judged[0], "validation": judged[1]}

    judge = _judge(population.learner, classes)
    moments = looks(population.total_steps, count)
    for i, moment in enumerate(moments):
        population.train(moment)
        costs = COSTS if dear and (i % _DEAR == 0 or moment == moments[-1]) else ("pass",)
        seen = None if moment == moments[-1] else first
        found = population.glance(lambda *a, costs=costs: measure(*a, costs=costs), start, *fixed, first=seen)
        _write(histories[:seen], population.step, found)
        _write_order(histories[:seen], population, classes)
    return histories


def _judge(
    learner: Learner, classes: int
) -> Callable[[Tensors, torch.Tensor, torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]:
    """What outputs say of rows, as ``appraise``; of targets that are neither a class nor one real number by what their
    likelihood says of itself.
    """
    standing = _Standing(learner.likelihood)
    plain = classes or learner.likelihood.target == "real"

    def judge(
        tensors: Tensors, outputs: torch.Tensor, losses: torch.Tensor, targets: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        if plain:
            return appraise(outputs, losses, targets, classes)
        own = {name: t for name, t in tensors.items() if name.startswith("likelihood.")}
        score, error = functional_call(standing, own, (outputs, targets))
        return {"loss": losses.mean(), "score": score, "margin": -error.square(), "error": error}

    return judge


class _Standing(nn.Module):
    """A likelihood whose call says how well rows are predicted."""

    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        self.likelihood = likelihood

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        every = torch.ones(len(outputs), dtype=torch.bool, device=outputs.device)
        return self.likelihood.standing(outputs, targets, every)


def _fixed_rows(population: Population) -> list[tuple[Any, torch.Tensor]]:
    """The rows of each part that are appraised at every look: (inputs [K, n, …], targets [K, n])."""
    data = population.data
    found = []
    for rows in (data.training_rows(), data.validation_rows()):
        some = torch.randperm(rows.shape[1], generator=torch.Generator().manual_seed(0))[:_ROWS].to(rows.device)
        index = rows[:, some][population.parts]
        part = population.parts[:, None]
        found.append((tuple(t[part, index] for t in data.inputs), data.targets[part, index]))
    return found


def _facts(population: Population, classes: int) -> list[dict[str, Any]]:
    """What is known of each network before its first step."""
    data, facts = population.data, []
    by_part: dict[int, dict[str, Any]] = {}
    layers: list[dict[str, Any]] | None = None
    for k, part in enumerate(population.parts.tolist()):
        recipe = population.recipes[k // data.parts]
        if part not in by_part:
            train, held = data.rows_of(part, data.train[part]), data.rows_of(part, data.validation[part])
            if data.targets.ndim > 2:  # of several values a row, no one stands for the target
                train, held = ((x, torch.zeros(len(y), dtype=torch.int64)) for x, y in (train, held))
            by_part[part] = data_facts(train, held, classes)
        if layers is None:
            layers = _layer_facts(population)
        steps = data.steps_per_epoch(population.batch)
        dropout = {"rate": recipe.number("network.dropout")}  # may differ from network to network
        own = {
            "batch": population.batch,
            "steps": population.total_steps,
            "steps per epoch": steps,
            "layers": [
                {**x, **dropout} if x["role"] == "dropout" and "network.dropout" in recipe else x for x in layers
            ],
            **recipe_facts(recipe),
        }
        facts.append({**by_part[part], **own})
    return facts


def _layer_facts(population: Population) -> list[dict[str, Any]]:
    subject = population.subject()
    parameters = {name: t[0] for name, t in population.state.parameters.items()}
    buffers = {name: t[0] for name, t in population.state.buffers.items()}
    rows = population.data.train[0][: max(2, min(32, population.batch))]
    batch = population.data.rows_of(0, rows)
    return network_facts(look(subject, parameters, parameters, parameters, buffers, *batch, rows=1))


def recipe_facts(recipe: Recipe) -> dict[str, Any]:
    """The numbers of a recipe that rules ask for, by plain names, and the whole recipe."""
    return {
        "optimizer": str(recipe.get("optimizer.name", "")),
        "learning rate": recipe.number("optimizer.learning_rate"),
        "weight decay": recipe.number("optimizer.weight_decay") + recipe.number("regularization.l2"),
        "momentum": recipe.number("optimizer.momentum"),
        "dropout": recipe.number("network.dropout"),
        "recipe": dict(recipe),
    }


def _write(histories: list[History], step: int, found: dict[str, Any]) -> None:
    """One look's numbers, network by network."""
    for name, measured in found["seen"].items():
        for layer, values in measured.items():
            for history, value in zip(histories, _numbers(values), strict=True):
                history.add(name, step, value, layer)
    for part in ("training", "validation"):
        judged = found[part]
        for name in ("loss", "score", "confidence"):
            if name in judged:
                for history, value in zip(histories, _numbers(judged[name]), strict=True):
                    history.add(f"{part} rows' {name}", step, value)
    for name in ("margin", "error"):
        each = found["training"][name].detach().float().cpu().numpy()
        for history, values in zip(histories, each, strict=True):
            history.rows.setdefault(name, []).append(values)


def _write_order(histories: list[History], population: Population, classes: int) -> None:
    """How the targets of the coming batches vary from batch to batch, over what random order would give."""
    steps = min(_BATCHES, population.data.steps_per_epoch(population.batch))
    if steps < 4:
        return
    rows = population.coming_rows(steps)
    targets = population.data.targets[population.parts[None, :, None], rows].double()
    targets = targets.reshape(*targets.shape[:3], -1)[..., 0]
    targets = torch.where(targets == targets, targets, targets.nanmean())
    for k, history in enumerate(histories):
        own = targets[:, k]
        value = order_dispersion(own.mean(1).cpu().numpy(), population.batch, float(own.var(correction=0)))
        history.add("order dispersion", population.step, value)


def _numbers(values: torch.Tensor) -> list[float]:
    return np.asarray(values.detach().double().cpu()).reshape(-1).tolist()
