"""Cheap baselines, always run and always shown, also when they win: scikit-learn's, on the same split.

They run in a process of their own (``_baseline_worker``), beside the training: with few threads that wait without
spinning, and ended when their time is over. Whatever answers came until then count. The process sees the inputs of the
rows to be predicted, never their targets.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from nastavnik.boosted import Boosted
from nastavnik.data import Columns, Preparation
from nastavnik.matrices import FEW_SQUARES, category_places, matrix
from nastavnik.predictive import Predictive
from nastavnik.rooms import allowed
from nastavnik.runs import beside
from nastavnik.selection import _baseline_worker as worker
from nastavnik.selection._workbench import PLAIN
from nastavnik.task import Task

_Job = tuple[dict[str, Any], dict[str, np.ndarray]]  # what is asked, and the matrices
_MOST_CELLS = 60_000_000  # rows × columns × outputs of one fit where no clock limits it
_LIBRARIES = ("lightgbm", "catboost")
BOOSTED = ("gradient_boosting", *_LIBRARIES)  # whose trees a model may hold
_START = 2000  # rows of the first, timed fit
_MOST_TOKENS = 300  # columns that a text counts for, before its words are known
_START_UP = 1.0  # seconds: with less left a process is not started again
_PAUSE = 0.05
_SIDE = 32  # pixels of a side that lines and neighbours are given
_FEW_KNOWN = 20  # rows of each of several targets that every fit sees
_MATRIX, _SHARE = 2**31, 0.15  # bytes of the squares of all pictures, or that share of what memory is allowed
_KINDS = {  # and which matrix each is given: trees take numbers as they are, the others standardized and one-hot
    "constant": "none",
    "linear": "others",  # or "plain", whichever serves it better, where the usual preparation is not plain
    "k_nearest_neighbours": "others",
    "random_forest": "filled",
    "gradient_boosting": "trees",
    "lightgbm": "trees",  # where they are installed
    "catboost": "trees",
    "linear_on_words": "tokens",  # all words that are known, by tf-idf; where there are texts
}


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline: what it says of the rows asked for, ``rows`` it was trained on of ``all_rows``, its seconds.

    Where scikit-learn refused these rows, or the time was over, ``predictive`` is None and ``failed`` says why.
    ``boosted`` are its trees, and ``held`` its answers to the held-out rows, by networks' rules: trees that did not
    train on them; None where a model cannot hold it.
    """

    name: str
    predictive: Predictive | None
    rows: int
    all_rows: int
    seconds: float
    failed: str | None = None
    boosted: Boosted | None = None
    held: np.ndarray | None = None


def fit_baselines(
    columns: Columns,
    task: Task,
    rows: np.ndarray,
    wanted: np.ndarray,
    *,
    seed: int,
    seconds: float = float("inf"),
    threads: int = 1,
) -> list[Baseline]:
    """Constant, linear, k-NN, random forest and gradient boosting, trained on ``rows``, predicting ``wanted`` ones.

    Each gets an even share of the seconds that are left. Where all rows would take longer, it is fitted on as many
    as fit (doubling twice at a time from 2,000) and its record says so.
    """
    with BaselineProcess(threads) as process:
        process.give(columns, task, rows, wanted, seed=seed, seconds=seconds)
        return process.collect()


class BaselineProcess:
    """Baselines beside other work: started, given a job, collected; ended with the ``with`` block.

    Args:
        threads: of the process.
        script: the program to run, by its path.
        here: work in this process, when collected: for work that no clock ends, where scikit-learn is imported already.
    """

    def __init__(self, threads: int, script: Path = Path(worker.__file__), *, here: bool = False) -> None:
        self.threads, self._script, self._here = threads, script, here
        self._kept: Callable[[], _Job] | None = None
        self._lock = threading.Lock()
        self._kinds: list[dict[str, Any]] = []  # those without a last answer
        self._answers: dict[str, tuple[dict[str, Any], list[np.ndarray]]] = {}
        self._failed: dict[str, tuple[str, float]] = {}
        self._supervisor: threading.Thread | None = None
        self._over = self._ended = False
        self._process: subprocess.Popen[bytes] | None = None
        if not here:
            self._start()

    def __enter__(self) -> BaselineProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._kill()
        if self._supervisor is not None:
            self._supervisor.join()
        self._close()

    def _close(self) -> None:
        """Both pipes of the process, which has ended."""
        process = self._process
        for pipe in () if process is None else (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except BrokenPipeError:  # what was not read any more
                pass

    def give(
        self,
        columns: Columns,
        task: Task,
        rows: np.ndarray,
        wanted: np.ndarray,
        *,
        seed: int,
        seconds: float,
        held: Sequence[np.ndarray] = (),
    ) -> None:
        """The job: train on ``rows``, predict the ``wanted`` ones, in so many seconds from now.

        Of ``held`` rows boosted trees answer too, and come back to be held by a model: rows that are not among
        ``rows``, or the folds of these, each then predicted by trees that did not see it.
        """
        self._ends = time.monotonic() + seconds
        self._task, self._rows = task, len(rows)
        order = _shuffled(rows, task, seed)
        self._kinds = _growth(columns, task, len(rows))
        self._named = [kind["name"] for kind in self._kinds]
        folds = len(held) > 1
        self._held = np.concatenate(held) if held else np.zeros(0, dtype=np.int64)
        self._order = order if folds else None
        apart = self._held if not folds else self._held[:0]
        self._apart = len(apart)
        wanted = np.concatenate([apart, wanted])
        questions = task.target.questions(task.values)
        for kind in self._kinds:
            kind["kept"] = bool(held) and kind["name"] in BOOSTED and len(questions) == 1
            if kind["name"] in _LIBRARIES:  # can be ended with what they have; held-out rows tell their noise
                kind["first"] = kind["most"] = kind["most"] if kind["kept"] else max(1, round(0.9 * kind["most"]))
        prepared = _preparations(columns, rows, self._kinds)
        self._preparation = prepared["trees"]

        def made() -> _Job:
            arrays = _arrays(self._kinds, columns, order, wanted, prepared)
            arrays["targets"] = np.stack([q.values.astype(np.float64) for q in questions], axis=1)[order]
            if task.weights is not None:
                arrays["weights"] = task.weights[order]
            first = min(kind["first"] for kind in self._kinds)
            fewest = int((~np.isnan(arrays["targets"][:first])).sum(0).min()) if len(questions) > 1 else len(rows)
            job = {
                "tasks": [q.task for q in questions],
                "near": max(1, min(10, fewest // 2)),
                "categories": category_places(prepared["trees"]),
                "folds": [np.flatnonzero(np.isin(order, fold)).tolist() for fold in held] if folds else [],
                "seed": seed,
                "threads": self.threads,
            }
            return job, arrays

        if self._here:  # the matrices are made when they are needed: memory may be short until then
            self._kept = made
            return
        self._supervisor = threading.Thread(target=self._supervise, args=made(), daemon=True)
        self._supervisor.start()

    def collect(self, ended: Callable[[], bool] = lambda: False) -> list[Baseline]:
        """What came of it, waiting for the rest until ``ended``."""
        if self._kept is not None:
            self._work(*self._kept())
        supervisor = self._supervisor
        while supervisor is not None and supervisor.is_alive():
            if ended():
                self._over = True
                self._end()
            supervisor.join(_PAUSE)
        return [self._baseline(name) for name in self._named]

    def _work(self, job: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """The whole job, in this process."""
        turn = _Turn(self._kinds[0]["name"], self._end)
        turn.limit.cancel()

        def answer(record: dict[str, Any], found: Sequence[np.ndarray] = ()) -> None:
            nonlocal turn
            turn = self._hear(turn, record, list(found))

        own = {**job, "kinds": list(self._kinds), "seconds": None, "names": list(arrays)}
        worker.work(own, list(arrays.values()), answer)
        self._kept = None

    def _baseline(self, name: str) -> Baseline:
        if name in self._answers:
            record, found = self._answers[name]
            boosted, held = self._kept_trees(name, record, found)
            noise = record["noise"] if held is None or held.ndim > 1 else [self._noise(held)]
            said = [{"classes": c, "noise": n} for c, n in zip(record["classes"], noise, strict=True)]
            own = [answers[self._apart :] for answers in found[: len(said)]]
            predictive = self._task.target.believed(list(zip(said, own, strict=True)))
            return Baseline(name, predictive, record["rows"], self._rows, record["seconds"], None, boosted, held)
        why, seconds = self._failed.get(name, ("there was no time for it", 0.0))
        return Baseline(name, None, 0, self._rows, seconds, why)

    def _noise(self, held: np.ndarray) -> float:
        """The deviation of held-out values from what trees that did not see them say."""
        rows = np.sort(self._held)
        squares = (self._task.values[rows].astype(np.float64) - held) ** 2
        weights = None if self._task.weights is None else self._task.weights[rows]
        return max(float(np.sqrt(np.average(squares, weights=weights))), 1e-12)

    def _kept_trees(
        self, name: str, record: dict[str, Any], found: list[np.ndarray]
    ) -> tuple[Boosted | None, np.ndarray | None]:
        """A baseline's trees, and its answers to the held-out rows in the order of their numbers; or neither."""
        if "packed" not in record or not (record["held"] or self._apart):
            return None, None
        rest = found[1:]
        said = rest.pop(0) if record["held"] else found[0][: self._apart]
        rows = self._held if self._order is None else self._order
        classes = tuple(record["classes"][0])
        if self._order is not None and said.ndim == 2:
            said = said[:, list(classes)]
        task = self._task.target.questions(self._task.values[:0])[0].task
        boosted = Boosted(name, task, classes, dict(zip(record["packed"], rest, strict=True)), self._preparation)
        return boosted, said[np.argsort(rows, kind="stable")]

    # The process

    def _start(self) -> None:
        few = {f"{name}_NUM_THREADS": str(self.threads) for name in ("OMP", "OPENBLAS", "MKL")}
        places = os.pathsep.join(p for p in sys.path if p)
        environment = {**os.environ, **few, "OMP_WAIT_POLICY": "passive", "PYTHONPATH": places, "PYTHONSAFEPATH": "1"}
        pipe = subprocess.PIPE
        with self._lock:
            self._process, self._ended = None, False
            if not self._over:
                self._process = subprocess.Popen(
                    [sys.executable, str(self._script)],
                    stdin=pipe,
                    stdout=pipe,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                    start_new_session=True,  # a Ctrl-C is for us
                )

    def _end(self) -> None:
        self._ended = True
        self._kill()

    def _kill(self) -> None:
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def _supervise(self, job: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """See the job through, in a new process after each that was ended, while kinds and time are left."""
        while self._kinds and not self._over:
            seconds = self._ends - time.monotonic()
            limit = _timer(seconds, self._end)
            own = {**job, "kinds": self._kinds, "seconds": None if seconds == float("inf") else seconds}
            self._see_through(own, arrays)
            limit.cancel()
            self._kill()
            if self._ends - time.monotonic() < _START_UP:
                return
            if self._kinds:
                self._start()

    def _see_through(self, job: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """One process: until every kind had its last answer, or the process ended and one kind's turn with it."""
        process, turn, message = self._process, _Turn(self._kinds[0]["name"], self._end), None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with process.stdin as questions, process.stdout as answers, beside():
                worker.receive(answers)  # it is ready
                worker.send(questions, {**job, "names": list(arrays)}, list(arrays.values()))
                while (message := worker.receive(answers)) is not None and "done" not in message[0]:
                    turn = self._hear(turn, *message)
        except OSError:  # the pipe's other end is gone: the process has ended
            message = None
        turn.limit.cancel()
        if message is None:
            why = "was not done when its time was over" if self._ended else "ended its process"
            self._failed[turn.name] = f"it {why}, after {turn.seconds:.1f} s", turn.seconds
            self._kinds = [k for k in self._kinds if k["name"] != turn.name]

    def _hear(self, turn: _Turn, record: dict[str, Any], found: list[np.ndarray]) -> _Turn:
        """Keep an answer; whose turn it is now."""
        if "share" in record:
            return _Turn(record["kind"], self._end, record["share"])
        if "failed" in record:
            self._failed[turn.name] = record["failed"], turn.seconds
        else:
            self._answers[turn.name] = record, found
        if record["last"]:
            turn.limit.cancel()
            self._kinds = [k for k in self._kinds if k["name"] != turn.name]
        return turn


class _Turn:
    """One kind's turn: at the end of its share of the seconds ``end`` is called."""

    def __init__(self, name: str, end: Callable[[], None], share: float | None = None) -> None:
        self.name, self._began = name, time.monotonic()
        self.limit = _timer(float("inf") if share is None else share, end)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began


def _timer(seconds: float, end: Callable[[], None]) -> threading.Timer:
    """Calls ``end`` in so many seconds, unless it is cancelled; it keeps nobody alive."""
    timer = threading.Timer(min(max(0.0, seconds), threading.TIMEOUT_MAX), end)
    timer.daemon = True
    timer.start()
    return timer


def _growth(columns: Columns, task: Task, rows: int) -> list[dict[str, Any]]:
    """Of each kind: its matrix, the rows of its first fit, and the most it may have."""
    width = columns.width + _MOST_TOKENS * len(columns.bags)
    first = max(200, min(_START, _START * 200 // max(width, 1)))  # wide rows begin with fewer
    holes = bool(np.isnan(columns.numbers).any())
    kinds = []
    questions = task.target.questions(task.values[:0])
    classes_only = all(q.task == "classification" for q in questions)
    outputs = max(1, len(task.classes), len(questions))
    told = any(own.sort == "tokens" for own in columns.fields.values())
    for name, needed in _KINDS.items():
        if (needed == "tokens" and not told) or not is_here(name):
            continue
        most = rows
        if needed not in ("none", "tokens"):
            most = min(rows, max(_START, _MOST_CELLS // max(1, width * outputs)))
        own = min(first, most) if classes_only else min(first, max(1, round(0.9 * rows)), most)
        needed = "trees" if needed == "filled" and not holes else needed
        kinds.append({"name": name, "matrices": [needed], "first": own, "most": most})
    return kinds


def is_here(name: str) -> bool:
    """Whether a kind of baseline can be fitted here: two need a package of their name."""
    return name not in _LIBRARIES or importlib.util.find_spec(name) is not None


def _preparations(columns: Columns, rows: np.ndarray, kinds: list[dict[str, Any]]) -> dict[str, Preparation]:
    """By matrix, how rows are prepared; where soft clipping is usual, what it touches is given a plain one too."""
    usual = Preparation.fit(columns, rows)
    if "robust" not in usual.method:
        return dict.fromkeys(("none", "others", "filled", "trees", "tokens"), usual)
    for kind in kinds:
        kind["matrices"] += ["plain"] if kind["matrices"] == ["others"] else []
    plain = Preparation.fit(columns, rows, numbers=PLAIN["preparation.numbers"])
    return {**dict.fromkeys(("none", "others", "filled", "trees", "tokens"), usual), "plain": plain}


def _arrays(
    kinds: Sequence[dict[str, Any]],
    columns: Columns,
    order: np.ndarray,
    wanted: np.ndarray,
    preparations: Mapping[str, Preparation],
) -> dict[str, np.ndarray]:
    """The matrices that kinds need, of the rows to be trained on, in this order, and of those to be predicted."""
    arrays: dict[str, np.ndarray] = {}
    side = _side(columns, max(kind["most"] for kind in kinds) + worker.UNSEEN + len(wanted))
    for name in dict.fromkeys(name for kind in kinds for name in kind["matrices"]):
        most = max(kind["most"] for kind in kinds if name in kind["matrices"]) + worker.UNSEEN
        for part, rows in (("train", order[:most]), ("wanted", wanted)):
            arrays[f"{part}.{name}"] = matrix(name, columns.take(rows), preparations[name], side)
    return arrays


def _side(columns: Columns, rows: int) -> int:
    """How many squares a side of a picture so many rows may have, in the share of the memory that is theirs."""
    channels = sum(own.shape[-1] for own in columns.fields.values() if own.sort == "picture")
    most = (_MATRIX if allowed() is None else _SHARE * (allowed() or 0.0)) / 4
    side = _SIDE
    while side > FEW_SQUARES and rows * channels * side**2 > most:
        side //= 2
    return side


def _shuffled(rows: np.ndarray, task: Task, seed: int) -> np.ndarray:
    """Rows in random order, but one of each class first, and of several targets some in which each is known."""
    order = np.random.default_rng(seed).permutation(rows)
    singles, firsts = task.singles(), []
    for one, known in singles:
        own = np.flatnonzero(np.isin(order, known)) if len(singles) > 1 else np.arange(len(order))
        if one.strata is not None:
            firsts.append(own[np.unique(one.strata[order[own]], return_index=True)[1]])
        if len(singles) > 1:
            firsts.append(own[:_FEW_KNOWN])
    places = np.array(list(dict.fromkeys(np.concatenate(firsts).tolist())) if firsts else [], dtype=np.int64)
    return np.concatenate([order[places], np.delete(order, places)])
