"""try: one choice against others, trained pair by pair from common seeds on the same rows in the same order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nastavnik.arguments import checked
from nastavnik.dataset import Dataset
from nastavnik.errors import UserError
from nastavnik.files import plain, together, write_json
from nastavnik.jobs._reopening import asked_about, ended_run
from nastavnik.jobs._setup import space_for
from nastavnik.jobs._surroundings import a_job
from nastavnik.mentor import PAIRS, Advice, Arm, Lab, Trial, try_recipes
from nastavnik.nets import Family
from nastavnik.recipe import Recipe, Value, parse_value
from nastavnik.runs import Clock, Watcher
from nastavnik.selection import Search, families_for
from nastavnik.space import Choice, Limits, Node, Space, default_of, read_space

AS_IT_WAS = "as it was"
_EXAMPLE = "optimizer.name=sgd,optimizer.learning_rate=0.1"


@dataclass(frozen=True)
class Tryout:
    """``arm`` is the choice that was asked about, ``rivals`` what it was held against, in the order they were named.

    A record holds its ``words``, the ``settings`` in which its recipe differs from the run's, the parameters of its
    network, the ``scores`` of its trainings (mean negative log likelihood of the validation rows in nats, null where it
    diverged), their mean, and its steps over the arm's. A rival's has the paired ``difference``, the arm's scores less
    its own (below 0: the arm is better), with an interval (``low``, ``high``, ``level``) and a ``verdict`` on the arm;
    in it a score more than ten nats beyond the median of both counts as that, so that the worst do not drown all
    others; ``capped`` is how many did.
    """

    run: str
    network: int
    pairs: int
    arm: dict[str, Any]
    rivals: list[dict[str, Any]]
    refused: dict[str, str]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """What ``try.json`` holds."""
        return plain(asdict(self))


@checked(but=("family",))
@a_job()
def try_settings(
    run: str | Path,
    settings: str | Mapping[str, Value],
    *,
    against: Sequence[str | Mapping[str, Value]] = (),
    network: int | None = None,
    pairs: int = PAIRS,
    family: Family | None = None,
    watcher: Watcher | None = None,
) -> Tryout:
    """Which is better, and by how much: a run's recipe with some settings, or with others?

    The recipe of the chosen network (or of another) is trained anew with each of the settings, from the same seeds, on
    the first part's training rows in the same order, and scored on its validation rows; what hangs below a choice that
    is changed (an optimizer's numbers, a family's sizes) takes its usual values unless it is named too. Intervals are
    Student's over the pairs; of several rivals each at 1 - 0.05 / their number, so that all hold together at 95 %.
    The result is written to ``try.json`` and ``try.html`` in the run's folder.

    Args:
        run: a finished run's folder.
        settings: names with values, or as text: "optimizer.name=sgd,optimizer.learning_rate=0.1", or a TOML file.
        against: the rivals, written alike; of a text with one setting the value alone will do ("adamw"). By default
            the recipe as it was.
        network: another network than the chosen one, as in networks.csv.
        pairs: trainings of each, 2 at least.
        family: the module factory of a run that had one.
        watcher: hears what is done.

    Raises:
        UserError: there is no such run, network or setting, or two of the choices are the same.
    """
    watcher, clock = watcher or Watcher(), Clock()
    watcher.begin(clock)
    if pairs < 2:
        raise UserError(f"--pairs must be 2 or more, but got {pairs}")
    wanted = [_read(settings)]
    wanted += [_read(other, wanted[0][1]) for other in against] or [(AS_IT_WAS, {})]
    if not Path(run).is_dir():
        raise UserError(f"there is no folder {run}; try takes the folder of a finished run")
    with ended_run(run, family, clock) as (folder, dataset, search):
        number, recipe = asked_about(folder, search, network)
        recipes = [recipe_with(recipe, changes, dataset, search) for _, changes in wanted]
        words = [own for own, _ in wanted]
        _refuse_twins(words, recipes)
        watcher.doing(f"training {len(recipes)} recipes, {pairs} networks each")
        rivals = [(Advice(own), other) for own, other in zip(words[1:], recipes[1:], strict=True)]
        trial = try_recipes(Lab(search.bench), recipes[0], rivals, pairs=pairs)
        _check_trained(trial)
        told = {
            own: {"words": own, "settings": _changed(recipe, other), "parameters": _parameters(search, other)}
            for own, other in zip(words, recipes, strict=True)
        }
        arm = {**told[words[0]], **_scores(trial.without), "steps": 1.0}
        others = [{**told[own.advice.words], **_scores(own.scores), **_against(own)} for own in trial.arms]
        found = Tryout(str(run), number, pairs, arm, others, dict(trial.refused), clock.elapsed)
        _write(Path(run), found)
    return found


def _check_trained(trial: Trial) -> None:
    if not trial.arms:
        raise UserError(next(iter(trial.refused.values())))
    if not any(np.isfinite(scores).any() for scores in (trial.without, *(own.scores for own in trial.arms))):
        raise UserError("every network diverged, whatever the choice; there is nothing to compare")


def recipe_with(recipe: Recipe, changes: Mapping[str, Value], dataset: Dataset, search: Search) -> Recipe:
    """A recipe with changes: all else as it was, but for what hangs below a choice that is changed.

    Raises:
        UserError: a setting or value that recipes do not have, or that is one choice for a whole run.
    """
    for name in changes:
        if name == "seed" or name.startswith("likelihood."):
            raise UserError(f"{name} is one for all that are compared, so that scores can be; it cannot be tried")
    families, wanted = search.bench.families, str(changes.get("network.family", ""))
    if wanted and wanted not in [family.name for family in families]:
        families = [*families, *families_for((wanted,), dataset.columns)]
    words = {name: value for name, value in changes.items() if isinstance(value, str)}
    both = {n: f"{recipe[n]},{v}" for n, v in words.items() if isinstance(recipe.get(n), str) and recipe[n] != v}
    below = _below(space_for(dataset, families, both), both)
    kept = {n: v for n, v in recipe.items() if n.split("@")[0] not in below and n not in changes and n != "seed"}
    usual = space_for(dataset, families, {})
    drawn, choices = _walked(usual, {**kept, **changes})
    told = {name: value for name, value in kept.items() if name in choices or drawn.get(name) != value}
    known = set(space_for(dataset, families, {**told, **words}).names())
    for name in changes:
        if name in set(usual.names()) and name not in known:
            raise UserError(f"{name} would have no effect: {usual.owner_of(name)}")
    point, _ = _walked(space_for(dataset, families, {**told, **changes}), kept)
    for name, value in words.items():
        if point.get(name) != value:
            raise UserError(f"{name} must be one value to be tried, but got {value!r}")
    return Recipe({**point, **{name: value for name, value in kept.items() if name in point}, "seed": recipe["seed"]})


def _walked(space: Space, kept: Mapping[str, Value]) -> tuple[dict[str, Value], set[str]]:
    """A space's point with these values where it has them and the defaults elsewhere; and the choices on its way."""
    choices: set[str] = set()

    def answer(key: str, node: Node) -> Value:
        name = key.rsplit("/", 1)[-1]
        value = kept.get(name)
        if isinstance(node, Choice) and any(set(branch.names()) for branch in node.branches.values()):
            choices.add(name)
        possible = value is not None and (not isinstance(node, Choice) or value in node.branches)
        return value if possible and value is not None else default_of(node)

    return space.draw(answer), choices


def _below(space: Space, names: Iterable[str]) -> set[str]:
    """What hangs below choices, in any of their branches."""
    choices = [node for name in names for node in space.named(name) if isinstance(node, Choice)]
    return {name for choice in choices for branch in choice.branches.values() for name in branch.names()}


def _read(told: str | Mapping[str, Value], first: Mapping[str, Value] | None = None) -> tuple[str, dict[str, Value]]:
    """Settings as they are called, and as names with values; ``first`` are those of the arm."""
    if not isinstance(told, str):
        return ", ".join(f"{name}={value}" for name, value in told.items()) or AS_IT_WAS, dict(told)
    if told.endswith(".toml"):
        space, limits = read_space(told)
        if space.nodes or not space.fixed or limits != Limits():
            raise UserError(f"{told} must give settings one value each and nothing else: optimizer.name = 'sgd'")
        return told, dict(space.fixed)
    if first and len(first) == 1 and "=" not in told.split(",")[0] and told.strip():  # another value of the same
        told = f"{next(iter(first))}={told}"
    found: dict[str, Value] = {}
    for piece in told.split(","):
        name, equals, word = (part.strip() for part in piece.partition("="))
        if not (name and equals and word):
            raise UserError(f"{told!r} is no NAME=VALUE[,NAME=VALUE …], such as {_EXAMPLE}")
        if name in found:
            raise UserError(f"{told!r} gives {name} twice; give it one value")
        found[name] = parse_value(word)
    return ", ".join(f"{name}={value}" for name, value in found.items()), found


def _refuse_twins(words: Sequence[str], recipes: Sequence[Recipe]) -> None:
    for i, other in enumerate(recipes):
        if other in recipes[:i]:
            twin = words[recipes.index(other)]
            raise UserError(f"{words[i]!r} and {twin!r} are the same recipe here, so that there is nothing to compare")


def _parameters(search: Search, recipe: Recipe) -> int:
    bench = search.bench.of(recipe)
    return sum(p.numel() for p in bench.learner(recipe, bench.parts[0]).network.parameters())


def _changed(before: Recipe, after: Recipe) -> dict[str, Value]:
    """The settings in which a recipe differs."""
    return {name: value for name, value in after.items() if before.get(name) != value}


def _scores(scores: np.ndarray) -> dict[str, Any]:
    finite = scores[np.isfinite(scores)]
    return {
        "scores": scores.tolist(),
        "mean": float(finite.mean()) if len(finite) else None,
        "diverged": len(scores) - len(finite),
    }


def _against(rival: Arm) -> dict[str, Any]:
    """What the trial says of the arm: it took the arm for the recipe as it was, and the rival for a change of it."""
    difference, low, high = (0.0 - value for value in (rival.effect, rival.high, rival.low))
    verdict = "better" if high < 0 else "worse" if low > 0 else "no difference is shown"
    return {
        "difference": difference, "low": low, "high": high, "level": rival.level, "verdict": verdict,
        "steps": rival.cost, "capped": rival.capped,
    }  # fmt: skip


def _write(path: Path, found: Tryout) -> None:
    """try.json and its page, together."""
    from nastavnik.report import write_tryout

    with together(path) as stage:
        write_json(stage / "try.json", found.to_json())
        write_tryout(stage / "try.html", found.to_json())
