"""compare: which of a run's networks, by every criterion, and which criterion may be believed here?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nastavnik.arguments import checked
from nastavnik.dataset import Dataset
from nastavnik.errors import UserError
from nastavnik.files import plain, write_json
from nastavnik.jobs._reopening import reopened
from nastavnik.jobs._surroundings import a_job
from nastavnik.model import Member, member_predictive
from nastavnik.nets import Family
from nastavnik.runs import Clock, RunFolder, Watcher
from nastavnik.selection import Candidate, Rows, Search, Verdict, ask_criterion, criteria_named

_FEWEST = 5  # networks that a rank correlation asks for


@dataclass(frozen=True)
class Comparison:
    """``networks``: a record a candidate (value, error, seconds and rank by criterion, and its test loss);
    ``criteria``: a record a criterion (cost, rank correlation with the test score, a sentence)."""

    run: str
    networks: list[dict[str, Any]]
    criteria: list[dict[str, Any]]
    test_touches: int

    def to_json(self) -> dict[str, Any]:
        """What ``compare.json`` holds."""
        return plain(self.__dict__)


@checked(but=("family",))
@a_job()
def compare(
    run: str | Path, *, criteria: str = "all", family: Family | None = None, watcher: Watcher | None = None
) -> Comparison:
    """Rank the networks a run has kept by each criterion, and hold the rankings against the test score.

    Every candidate of the run's checkpoint (the best twenty, and two of each structure) is judged by the network
    that its first fold trained, on that fold's rows. Evidences of different structures are never ranked against each
    other: each criterion has a ranking of its own. The test rows are touched once more, which ``result.json`` counts.

    Args:
        run: the folder of a finished run.
        criteria: "all", or names with commas between.
        family: the module factory of a run that had one.
        watcher: hears what is done.

    Raises:
        UserError: there is no such run, its source has changed, or a criterion is unknown.
    """
    names = criteria_named(criteria)
    watcher = watcher or Watcher()
    clock = Clock()
    watcher.begin(clock)
    folder = RunFolder.resume(run)
    assert folder.path is not None
    if folder.status == "failed":
        raise UserError(f"no network of {run} reached a finite loss; 'nastavnik check {run}' looks for the cause")
    if folder.status != "finished" or not (folder.path / "checkpoint" / "search.json").exists():
        raise UserError(f"{run} is no finished run with a checkpoint; finish it with 'nastavnik fit --resume {run}'")
    folder.claim()
    try:
        folder.touches()  # says at once if result.json cannot be believed
        dataset, search = reopened(folder, family, clock)
        verdicts = {c: _verdicts(search, c, names, watcher) for c in search.ranking if c.number in search.pool}
        watcher.doing("testing")
        touches = folder.touch() if len(dataset.split.test) and verdicts else 0
        tested = _tested(search, dataset, list(verdicts)) if touches else {}
        found = Comparison(str(run), _networks(verdicts, tested), _criteria(names, verdicts, tested), touches)
        write_json(folder.path / "compare.json", found.to_json())
    finally:
        folder.release()
    return found


def _verdicts(search: Search, candidate: Candidate, names: Sequence[str], watcher: Watcher) -> dict[str, Verdict]:
    """Every criterion's verdict on the candidate's first network, which the first part trained."""
    data = search.bench.of(candidate.recipe).data
    rows = Rows(data.rows_of(0, data.train[0]), data.rows_of(0, data.validation[0]))
    found = {}
    for name in names:
        watcher.doing(f"network {candidate.number}: {name}")
        found[name] = ask_criterion(name, search.pool[candidate.number][0], rows, seed=search.seed)
    return found


def _tested(search: Search, dataset: Dataset, candidates: Sequence[Candidate]) -> dict[Candidate, float]:
    """The same networks' mean negative log likelihood of the test rows, in own units."""
    rows, y = dataset.split.test, dataset.task.values[dataset.split.test]
    columns = dataset.columns.take(rows)
    found = {}
    for c in candidates:
        part = search.bench.of(c.recipe).parts[0]  # each network's inputs are prepared as its recipe says
        inputs = part.preparation.apply(columns)
        predictive = member_predictive(Member(search.pool[c.number][0], c.recipe), inputs, part.target)
        found[c] = float(predictive.neg_log_likelihood(y).mean())
    return found


def _networks(verdicts: dict[Candidate, dict[str, Verdict]], tested: dict[Candidate, float]) -> list[dict[str, Any]]:
    records = []
    for c, own in verdicts.items():
        answers = {}
        for name, verdict in own.items():
            values = [v[name].answer.value for v in verdicts.values()]
            rank = None
            if verdict.answer.value is not None:
                rank = 1 + sum(v is not None and v > verdict.answer.value for v in values)
            answers[name] = {**verdict.answer._asdict(), "seconds": verdict.seconds, "rank": rank}
        records.append(
            {"candidate": c.number, "words": c.recipe.in_words(), "answers": answers, "test_nll": tested.get(c)}
        )
    return records


def _criteria(
    names: Sequence[str], verdicts: dict[Candidate, dict[str, Verdict]], tested: dict[Candidate, float]
) -> list[dict[str, Any]]:
    records = []
    for name in names:
        judged = [(own[name].answer.value, c) for c, own in verdicts.items() if own[name].answer.value is not None]
        record: dict[str, Any] = {
            "criterion": name,
            "networks": len(judged),
            "seconds": sum(own[name].seconds for own in verdicts.values()),
            "problem": next((o[name].answer.problem for o in verdicts.values() if o[name].answer.problem), None),
            "chooses": max(judged, key=lambda pair: pair[0] or 0.0)[1].number if judged else None,
        }
        if tested and len(judged) >= _FEWEST:
            values = np.array([v for v, _ in judged], dtype=float)
            record |= rank_correlation(values, np.array([-tested[c] for _, c in judged]))
        records.append({**record, "says": _sentence(record, bool(tested))})
    return records


def rank_correlation(values: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Spearman's correlation of a criterion with the test score, and its 95 % interval (Fieller et al. 1957).

    A correlation of exactly 1 of few networks is no certainty: for the interval it counts as 1 - 1/n.
    """
    from scipy.stats import spearmanr

    n = len(values)
    if np.ptp(values) == 0 or np.ptp(scores) == 0:
        return {"correlation": 0.0, "low": -1.0, "high": 1.0}
    whole = float(spearmanr(values, scores).statistic)
    centre = np.arctanh(np.clip(whole, -1 + 1 / n, 1 - 1 / n))
    half = 1.96 * 1.03 / (n - 3) ** 0.5
    low, high = float(np.tanh(centre - half)), float(np.tanh(centre + half))
    return {"correlation": whole, "low": min(low, whole), "high": max(high, whole)}


def _sentence(record: dict[str, Any], tested: bool) -> str:
    if record["networks"] == 0:
        return f"no number: {record['problem']}"
    if not tested:
        return "there are no test rows to hold it against"
    if "correlation" not in record:
        few = "one network is" if record["networks"] == 1 else f"{record['networks']} networks are"
        return f"{few} too few for a rank correlation"
    if record["low"] > 0:
        return "agrees with the test score here"
    if record["high"] < 0:
        return "misleads here: what it prefers does worse on the test rows"
    return "no relation to the test score that these networks can show"
