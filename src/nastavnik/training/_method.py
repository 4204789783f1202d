"""What a recipe says about the training, put together: optimizer, schedule, regularizers, and their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from nastavnik.errors import UserError, nearest
from nastavnik.recipe import Recipe, Value
from nastavnik.training.optimizers import OPTIMIZERS, WRAPPERS, FirstOrder, Optimizer, Tensors, Wrapper, wrapped
from nastavnik.training.regularizers import REGULARIZERS, Regularizer
from nastavnik.training.schedules import SCHEDULES, Schedule, Time, factor_at

T = TypeVar("T")
NOISE = "noise"  # among the settings: a network's own stream of random numbers


@dataclass(frozen=True)
class Now:
    """The settings at one moment, schedules applied: ``optimizer`` and ``regularization`` without their prefix."""

    optimizer: Tensors
    regularization: Tensors


@dataclass(frozen=True)
class Method:
    """How networks of one shape are trained.

    ``settings`` are the numbers it takes by their names in a recipe, with defaults; each may differ from network to
    network.
    """

    optimizer: Optimizer
    schedule: type[Schedule]
    regularizers: tuple[Regularizer, ...]
    regularization_schedule: type[Schedule]
    settings: Mapping[str, float]

    @classmethod
    def of(cls, recipe: Recipe) -> Method:
        """Read a recipe.

        Raises:
            UserError: a name that is in no table.
        """
        options = recipe.section("optimizer")
        base = _entry("optimizer.name", OPTIMIZERS, recipe.get("optimizer.name", "adamw"))(options)
        special = [name for name in options if "@" in name]
        if special and not isinstance(base, FirstOrder):
            raise UserError(f"optimizer.{special[0]}: {base.name} moves all parameters together")
        may_differ = [*base.settings, *(n for name, w in WRAPPERS.items() if name in options for n in w.by_parameter)]
        for name in special:
            if name.split("@")[0] not in may_differ:
                raise UserError(f"optimizer.{name}: only {base.name}'s own numbers can differ, {', '.join(may_differ)}")
        optimizer = wrapped(base, options, WRAPPERS)
        schedule = _entry("schedule.name", SCHEDULES, recipe.get("schedule.name", "constant"))
        chosen = recipe.section("regularization")
        regularizers = tuple(regularizer() for name, regularizer in REGULARIZERS.items() if name in chosen)
        other = _entry("regularization.schedule", SCHEDULES, chosen.get("schedule", "constant"))
        settings = {f"optimizer.{name}": value for name, value in base.settings.items() if name != "memory"}
        inner: Optimizer = optimizer
        while isinstance(inner, Wrapper):
            settings |= {f"optimizer.{name}": value for name, value in inner.settings.items()}
            inner = inner.inner
        settings |= {f"optimizer.{name}": 0.0 for name in special}
        settings |= {f"schedule.{name}": value for name, value in schedule.settings.items()}
        if "schedule.warmup" in recipe:
            settings["schedule.warmup"] = 0.0
        late = [regularizer.name for regularizer in regularizers if regularizer.acts_after]
        if base.averages and late:
            raise UserError(f"{base.name} averages weights of its own, which regularization.{late[0]} would not reach")
        for regularizer in regularizers:
            settings |= {f"regularization.{name}": value for name, value in regularizer.settings.items()}
        return cls(optimizer, schedule, regularizers, other, settings)

    @property
    def noisy(self) -> bool:
        """Whether it needs a stream of random numbers for each network."""
        inner: Optimizer | None = self.optimizer
        while inner is not None:
            if inner.noisy:
                return True
            inner = inner.inner if isinstance(inner, Wrapper) else None
        return any(regularizer.noisy for regularizer in self.regularizers)

    def at(self, settings: Tensors, time: Time) -> Now:
        """The settings at a moment; penalties follow their schedule epoch by epoch."""
        optimizer = _section(settings, "optimizer.")
        factor = factor_at(self.schedule, time, _section(settings, "schedule."))
        for name in optimizer:
            if name.split("@")[0] == "learning_rate":
                optimizer[name] = optimizer[name] * factor
        optimizer["progress"] = time.progress
        if NOISE in settings:
            optimizer[NOISE] = settings[NOISE]
        regularization = _section(settings, "regularization.")
        if self.regularization_schedule.name != "constant":
            epoch = torch.floor(time.epoch)
            share = torch.where(time.epoch > 0, epoch / time.epoch.clamp(min=1e-12), torch.ones_like(epoch))
            begun = Time(time.step * share, epoch, time.progress * share)
            defaults = {n: epoch.new_tensor(v) for n, v in self.regularization_schedule.settings.items()}
            scale = factor_at(self.regularization_schedule, begun, defaults)
            for regularizer in (r for r in self.regularizers if r.scheduled):
                regularization[regularizer.name] = regularization[regularizer.name] * scale
        return Now(optimizer, regularization)

    def projected(self, parameters: Tensors, settings: Tensors) -> Tensors:
        """Averaged parameters, brought back to where regularizers hold the others."""
        own = _section(settings, "regularization.")
        for regularizer in self.regularizers:  # at a rate of 0, only bounds do anything
            parameters = regularizer.after(parameters, parameters, torch.zeros(()), own)
        return parameters

    def after(self, parameters: Tensors, before: Tensors, now: Now) -> Tensors:
        """What regularizers do to the parameters after a step."""
        for regularizer in self.regularizers:
            parameters = regularizer.after(parameters, before, now.optimizer["learning_rate"], now.regularization)
        return parameters


def _section(settings: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): t for name, t in settings.items() if name.startswith(prefix)}


def _entry(setting: str, table: Mapping[str, type[T]], name: Value) -> type[T]:
    if name not in table:
        raise UserError(f"{setting} cannot be {name!r}{nearest(str(name), table)}")
    return table[str(name)]
