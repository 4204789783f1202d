"""check: is this training healthy, what to change, and does the change help?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nastavnik.arguments import checked
from nastavnik.errors import UserError, nearest
from nastavnik.files import plain, read_json, together, write_json
from nastavnik.jobs._reopening import asked_about, ended_run
from nastavnik.jobs._surroundings import a_job
from nastavnik.mentor import (
    PAIRS,
    RULES,
    SEVERITIES,
    Advice,
    Finding,
    Lab,
    applicable,
    diagnose,
    factorial,
    read_history,
    root_causes,
    try_finding,
)
from nastavnik.nets import Family
from nastavnik.recipe import Recipe
from nastavnik.runs import Clock, RunFolder, Watcher, parse_budget
from nastavnik.schemas import FINDINGS
from nastavnik.selection import Candidate, Search
from nastavnik.trace import History

ALL = "all"  # what --try means without a rule
_SIBLINGS = 4  # further seeds of the recipe, so that a stuck run is told from a bad recipe
_FEW_STEPS = 2500  # of a network, at about a millisecond each
_OTHERS = 4  # of the run's other networks, that are looked at too
_FEWEST_PAIRS = 5  # of a trial that a budget cuts short
_LEAST_SHARE = 0.1  # of a training that shows anything
_TOGETHER = 3  # pieces of advice of different findings in one factorial


@dataclass(frozen=True)
class Checkup:
    """``findings`` of the network that was asked about, causes first; ``others`` what was wrong with other networks.

    ``together`` is the factorial of advice against advice, if there was one; ``known`` the rules that the baseline had
    already; ``faults`` what the mentor of a loop could not do; ``history`` what was measured; ``each`` the seconds a
    watched training took.
    """

    run: str
    findings: list[Finding]
    known: frozenset[str] = frozenset()
    suppressed: tuple[str, ...] = ()
    network: int | None = None
    recipe: Recipe | None = None
    others: list[dict[str, Any]] = field(default_factory=list)
    together: dict[str, Any] | None = None
    faults: tuple[str, ...] = ()
    history: History = field(default_factory=History)
    each: float = 0.0
    seconds: float = 0.0

    def reaches(self, level: str) -> bool:
        """Whether a finding that the baseline did not know is as grave as ``level``."""
        least = SEVERITIES.index(level)
        return any(SEVERITIES.index(f.severity) >= least for f in self.findings if f.rule not in self.known)

    def to_json(self) -> dict[str, Any]:
        """What ``findings.json`` holds."""
        findings = [{**finding.to_json(), "known": finding.rule in self.known} for finding in self.findings]
        return plain({
            "findings": findings, "network": self.network, "suppressed": list(self.suppressed), "others": self.others,
            "together": self.together, "faults": list(self.faults),
        })  # fmt: skip


@checked(but=("family",))
@a_job()
def check(
    run: str | Path,
    *,
    try_rule: str | None = None,
    network: int | None = None,
    pairs: int = PAIRS,
    suppress: Iterable[str] = (),
    baseline: str | Path | None = None,
    budget: float | str | None = None,
    family: Family | None = None,
    watcher: Watcher | None = None,
    clock: Clock | None = None,
) -> Checkup:
    """Say what is wrong with a training, why, and what to do; with ``try_rule``, try it.

    A run of ``fit`` is looked at by training its chosen recipe again from its own seed, watched by all instruments,
    beside four other seeds; and some of its other networks, the diverged and the worst first. Of a run in which none
    reached a finite loss, the first is trained again, and its diverging shows why. What ``Mentor.save`` wrote is read
    as it is. Where a budget ended the run's training early, all are given as many steps. The result is written to
    ``findings.json``, and into the report if there is one.

    Args:
        run: a finished run's folder, or one that ``Mentor.save`` wrote.
        try_rule: a rule whose advice is tried; "all" for every cause that has advice to try.
        network: the number of another network than the chosen one, as in networks.csv.
        pairs: trainings with and without a change.
        suppress: rules whose findings are left out.
        baseline: an earlier ``findings.json``; what it holds is known.
        budget: a span of time (``"5m"``, seconds): there are fewer other seeds and networks to fit into it, and trials
            have fewer pairs, or are left out. The chosen recipe is trained once whatever it takes.
        family: the module factory of a run that had one.
        watcher: hears what is done.
        clock: the one of a fit that the check belongs to, with that fit's budget.

    Raises:
        UserError: there is no such run, network or rule, or nothing that could be tried.
    """
    watcher = watcher or Watcher()
    if clock is None:
        clock = Clock(parse_budget(budget))
        watcher.begin(clock)
    suppressed = _rules(suppress)
    _check_trial(try_rule, pairs, suppressed)
    known = _known(baseline)
    _check_folder(Path(run))
    if (Path(run) / "history.json").exists() and not (Path(run) / "run.json").exists():
        if try_rule is not None or network is not None:
            raise UserError(
                f"{run} is a history of a loop of your own; --try and --network need a run of 'nastavnik fit'"
            )
        return replace(_history_checked(Path(run), suppressed, known, watcher), seconds=clock.elapsed)
    with ended_run(run, family, clock) as (folder, _, search):
        found = _checked(folder, search, network, clock, suppressed, known, watcher)
        if try_rule is not None:
            share = _share(_candidate(search, *asked_about(folder, search, network)))
            found = tried(found, Lab(search.bench, share=share), try_rule, pairs, watcher, clock)
        found = replace(found, seconds=clock.elapsed)
        _write(Path(run), found, watcher)
    return found


def _history_checked(path: Path, suppressed: tuple[str, ...], known: frozenset[str], watcher: Watcher) -> Checkup:
    """The findings of a loop that a ``Mentor`` watched."""
    history = read_history(path)
    faults = [str(fault) for fault in history.facts.get("faults", [])]
    findings = diagnose(
        history, suppress=suppressed, broken=lambda rule, e: faults.append(f"the rule {rule}: {type(e).__name__}: {e}")
    )
    for fault in faults:
        watcher.note(f"the mentor's own fault: {fault}")
    found = Checkup(str(path), findings, known, suppressed, faults=tuple(faults), history=history)
    write_json(path / "findings.json", found.to_json(), FINDINGS)
    return found


def _checked(
    folder: RunFolder,
    search: Search,
    network: int | None,
    clock: Clock,
    suppressed: tuple[str, ...],
    known: frozenset[str],
    watcher: Watcher,
) -> Checkup:
    """The findings of one network, and of some others of the run."""
    assert folder.path is not None
    number, recipe = asked_about(folder, search, network)
    candidate = _candidate(search, number, recipe)
    share, siblings = _share(candidate), _siblings(candidate, search, clock)
    lab, started = Lab(search.bench, engine=_way(recipe, search, share), share=share), clock.elapsed
    watcher.doing(f"training network {number} again, watched, beside {siblings} other seeds")
    seed = recipe.whole("seed")
    recipes = [recipe, *(recipe.replace({"seed": seed + 1 + i}) for i in range(siblings))]
    history = lab.watch(recipes, first=1).histories[0]
    if network is None and candidate is not None and candidate.lacking > 0:
        history.facts |= {"delivered steps": candidate.steps, "planned steps": candidate.total_steps}
    findings = [replace(f, networks=(number,)) for f in diagnose(history, suppress=suppressed)]
    each = (clock.elapsed - started) / len(recipes)
    if not search.history:
        watcher.note("the run's checkpoint is gone, so its other networks cannot be looked at")
    others = []
    for other in _others(search, number) if network is None else []:
        if clock.budget is not None and clock.left < 2 * _SIBLINGS * each:
            break
        watcher.doing(f"network {other.numbers[0]}, which {_became(other)}, again")
        seen = diagnose(lab.watch([other.recipe], dear=False).histories[0], suppress=suppressed)
        roots = [{"rule": f.rule, "severity": f.severity, "title": f.title} for f in root_causes(seen)]
        others.append({"network": other.numbers[0], "status": other.status, "score": other.score, "causes": roots})
    return Checkup(str(folder.path), findings, known, suppressed, number, recipe, others, history=history, each=each)


def tried(found: Checkup, lab: Lab, which: str, pairs: int, watcher: Watcher, clock: Clock) -> Checkup:
    """The checkup with trials on record: of one rule's advice, or of every cause's; then the best of several together.

    A trial whose pairs do not fit into what is left of a budget has fewer, five at least, or is left out.

    Raises:
        UserError: the rule found nothing, or nothing of its advice can be tried.
    """
    assert found.recipe is not None
    roots = [f for f in root_causes(found.findings) if which in (ALL, f.rule)] or [
        f for f in found.findings if f.rule == which
    ]
    if which != ALL and not roots:
        raise UserError(f"{which} found nothing in this run, so there is no advice to try")
    usable = [f for f in roots if any(applicable(a, found.recipe, lab.classes) for a in f.advice)]
    if which != ALL and not usable:
        raise UserError(
            f"the advice of {which} is nothing that a change of recipe could try: {roots[0].advice[0].words}"
        )
    if not usable:
        watcher.note("there is no advice that a change of recipe could try")
    done: dict[str, Finding] = {}
    best: list[Advice] = []
    for finding in usable:
        arms = 1 + sum(applicable(a, found.recipe, lab.classes) for a in finding.advice)
        most = pairs if clock.budget is None else int(clock.left / max(arms * found.each, 1e-9))
        if most < min(pairs, _FEWEST_PAIRS):
            watcher.note(f"no time left to try the advice of {finding.rule}")
            continue
        own = min(pairs, most)
        watcher.doing(f"trying the advice of {finding.rule}, {own} pairs")
        done[finding.rule], trial = try_finding(lab, found.recipe, finding, pairs=own)
        if trial.recommended is not None:
            best.append(trial.recommended.advice)
    findings = [done.get(f.rule, f) for f in found.findings]
    several = best[:_TOGETHER] if clock.budget is None else []
    return replace(found, findings=findings, together=_together(lab, found.recipe, several, pairs, watcher))


def _together(
    lab: Lab, recipe: Recipe, advice: Sequence[Advice], pairs: int, watcher: Watcher
) -> dict[str, Any] | None:
    """Advice against advice, where more than one piece of it helps."""
    apart: list[Advice] = []
    for one in advice:  # of two that change one setting the first
        if not any(set(one.changes) & set(other.changes) for other in apart):
            apart.append(one)
    if len(apart) < 2:
        return None
    advice = apart
    watcher.doing(f"{len(advice)} pieces of advice together and apart")
    try:
        found = factorial(lab, recipe, advice, pairs=pairs)
    except UserError as error:
        watcher.note(f"the advice cannot be followed together: {error}")
        return None
    effects = [{"words": list(words), "effect": e[0], "low": e[1], "high": e[2]} for words, e in found.effects.items()]
    best = [a.words for a, on in zip(advice, found.best, strict=True) if on]
    effect, low, high = found.best_effect
    return {"effects": effects, "best": best, "effect": effect, "low": low, "high": high}


def _way(recipe: Recipe, search: Search, share: float) -> str:
    """One network after the other where that takes less than what batching needs at its start, about two seconds."""
    data = search.bench.of(recipe).data
    steps = share * recipe.whole("epochs") * data.steps_per_epoch(data.batch_size(recipe.whole("batch_size")))
    return "sequential" if steps * (1 + _SIBLINGS) <= _FEW_STEPS else "auto"


def _candidate(search: Search, number: int, recipe: Recipe) -> Candidate | None:
    """Whose network that is, or that of the same recipe, for one that was trained on all rows in the end."""
    own = [c for c in search.history if number in c.numbers] or [c for c in search.history if c.recipe == recipe]
    return own[0] if own else None


def _share(candidate: Candidate | None) -> float:
    """Of the steps that were planned those that a budget allowed: longer trainings would show another network."""
    return 1.0 if candidate is None else max(_LEAST_SHARE, 1.0 - candidate.lacking)


def _siblings(candidate: Candidate | None, search: Search, clock: Clock) -> int:
    """As many other seeds as half of the time that is left allows, by what the run took for one."""
    if candidate is None or clock.budget is None or candidate.seconds <= 0:
        return _SIBLINGS
    each = candidate.seconds / search.bench.folds
    return max(0, min(_SIBLINGS, int(0.5 * clock.left / each) - 1))


def _others(search: Search, chosen: int) -> list[Candidate]:
    """Networks that show what went wrong elsewhere: half of them diverged, the rest the worst that finished."""
    rest = [c for c in search.history if chosen not in c.numbers]
    diverged = [c for c in rest if c.status == "diverged"][: _OTHERS // 2]
    worst = sorted((c for c in rest if c.status != "diverged"), key=lambda c: -c.score)
    return [*diverged, *worst[: _OTHERS - len(diverged)]]


def _became(candidate: Candidate) -> str:
    return {"diverged": "diverged", "dropped": "was dropped"}.get(candidate.status, "scored badly")


def _rules(names: Iterable[str]) -> tuple[str, ...]:
    given = tuple(name.strip() for name in names if name.strip())
    for name in given:
        if name not in RULES:
            raise UserError(f"there is no rule {name!r}{nearest(name, RULES)} ('nastavnik list rules' names them)")
    return given


def _known(baseline: str | Path | None) -> frozenset[str]:
    """The rules an earlier findings.json holds."""
    if baseline is None:
        return frozenset()
    wrong = f"the baseline {baseline} is no findings.json; write one with 'nastavnik check RUN'"
    try:
        if Path(baseline).exists() and not Path(baseline).is_file():
            raise UserError("it is no file")
        findings = read_json(Path(baseline), FINDINGS)["findings"]
    except UserError as error:
        raise UserError(f"{wrong} ({error})") from error
    return frozenset(finding["rule"] for finding in findings)


def _check_trial(try_rule: str | None, pairs: int, suppressed: tuple[str, ...]) -> None:
    if pairs < 2:
        raise UserError(f"--pairs must be 2 or more, but got {pairs}")
    if try_rule is None or try_rule == ALL:
        return
    if not _rules([try_rule]):
        raise UserError("--try needs the name of a rule, or 'all'; 'nastavnik list rules' names them")
    if try_rule in suppressed:
        raise UserError(f"{try_rule} is both tried and suppressed; leave one of the two out")


def _check_folder(path: Path) -> None:
    """Refuse a folder that is not there, or that the findings could not be written into, before anything is trained."""
    if not path.is_dir():
        raise UserError(f"there is no folder {path}; check takes the folder of a run, or one that Mentor.save wrote")
    if (path / "findings.json").is_dir() or not os.access(path, os.W_OK):
        raise UserError(f"findings.json cannot be written into {path}; let it be writable, or check a copy of it")


def _write(path: Path, found: Checkup, watcher: Watcher) -> None:
    """findings.json, and the section of the report that shows it, together."""
    from nastavnik.report import show_findings

    page = path / "report.html"
    with together(path) as stage:
        write_json(stage / "findings.json", found.to_json(), FINDINGS)
        shown = not page.exists() or show_findings(page, stage / page.name, found.to_json(), found.history)
    if not shown:
        watcher.note(f"{page} is not as fit wrote it, and was left alone: the findings are in findings.json")
