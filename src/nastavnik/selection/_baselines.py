"""Cheap baselines, always run and always shown, also when they win: scikit-learn's, on the same split."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from nastavnik.data import Columns, Preparation, TargetPreparation
from nastavnik.predictive import ClassPredictive, CountPredictive, Predictive, RealPredictive
from nastavnik.task import Task

_MOST_CELLS = 60_000_000  # rows × columns × outputs of one fit where no clock limits it
_START = 2000  # rows of the first, timed fit
_ONE_HOT = 1000  # most one-hot columns


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline: ``rows`` it was trained on, of ``all_rows`` there were; seconds it took.

    Where scikit-learn refused these rows, ``predict`` is None and ``failed`` is its sentence.
    """

    name: str
    predict: Callable[[Columns], Predictive] | None
    rows: int
    all_rows: int
    seconds: float
    failed: str | None = None


@dataclass(frozen=True)
class _Kind:
    name: str
    make: Callable[[], Any]
    trees: bool  # trees take numbers as they are, the others standardized and one-hot


def fit_baselines(
    columns: Columns,
    task: Task,
    rows: np.ndarray,
    *,
    seed: int,
    seconds: float = float("inf"),
    threads: int = 1,
    watch: Callable[[str], None] = lambda name: None,
) -> list[Baseline]:
    """Constant, linear, k-NN, random forest and gradient boosting, trained on ``rows``.

    Each gets an even share of the seconds that are left. Where all rows would take longer, it is fitted on as many
    as fit (doubling from 2,000) and its record says so.
    """
    kinds = _kinds(task, len(rows), seed, threads)
    preparation = Preparation.fit(columns, rows)
    fitted = []
    ends = time.monotonic() + seconds
    for i, kind in enumerate(kinds):
        watch(kind.name.replace("_", " "))
        share = (ends - time.monotonic()) / (len(kinds) - i)
        with _calm(threads):
            began = time.monotonic()
            try:
                fitted.append(_fit_in_time(kind, columns, task, rows, preparation, share, seed))
            except ValueError as error:
                reason = str(error).splitlines()[0]
                fitted.append(Baseline(kind.name, None, 0, len(rows), time.monotonic() - began, reason))
    return fitted


def _kinds(task: Task, rows: int, seed: int, threads: int) -> list[_Kind]:
    from sklearn import dummy, ensemble, linear_model, neighbors

    near = max(1, min(10, rows // 2))
    if task.is_classification:
        return [
            _Kind("constant", lambda: dummy.DummyClassifier(strategy="prior"), False),
            _Kind("linear", lambda: linear_model.LogisticRegression(max_iter=1000), False),
            _Kind("k_nearest_neighbours", lambda: neighbors.KNeighborsClassifier(near, n_jobs=threads), False),
            _Kind("random_forest", lambda: ensemble.RandomForestClassifier(n_jobs=threads, random_state=seed), True),
            _Kind("gradient_boosting", lambda: ensemble.HistGradientBoostingClassifier(random_state=seed), True),
        ]
    loss = "poisson" if task.kind == "count" else "squared_error"
    ridge = lambda: linear_model.RidgeCV(np.logspace(-2, 4, 25))  # noqa: E731
    linear = (lambda: linear_model.PoissonRegressor(max_iter=1000)) if task.kind == "count" else ridge
    boost = lambda: ensemble.HistGradientBoostingRegressor(loss=loss, random_state=seed)  # noqa: E731
    return [
        _Kind("constant", dummy.DummyRegressor, False),
        _Kind("linear", linear, False),
        _Kind("k_nearest_neighbours", lambda: neighbors.KNeighborsRegressor(near, n_jobs=threads), False),
        _Kind("random_forest", lambda: ensemble.RandomForestRegressor(n_jobs=threads, random_state=seed), True),
        _Kind("gradient_boosting", boost, True),
    ]


@contextmanager
def _calm(threads: int) -> Iterator[None]:
    """As many threads as the run was given; a baseline that has not quite converged is still a baseline."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _fit_in_time(
    kind: _Kind,
    columns: Columns,
    task: Task,
    rows: np.ndarray,
    preparation: Preparation,
    seconds: float,
    seed: int,
) -> Baseline:
    """Fits of growing size until all rows are in or the time is; the last one counts.

    A regression's noise is the deviation of the residuals on rows that the latest fit with some left out did not see.
    """
    started = time.monotonic()
    order = _shuffled(rows, task, seed)
    width = columns.numbers.shape[1] + columns.words.shape[1]
    most = len(rows)
    if kind.name != "constant":
        most = min(most, max(_START, _MOST_CELLS // max(1, width * max(1, len(task.classes)))))
    matrix = _matrix_maker(kind, columns, preparation)
    first = max(200, min(_START, _START * 200 // max(width, 1)))  # wide rows begin with fewer
    size = min(first, most) if task.is_classification else min(first, max(1, round(0.9 * len(rows))), most)
    noise = 1.0
    while True:
        some, unseen = order[:size], order[size : size + _START]
        began = time.monotonic()
        estimator = kind.make().fit(matrix(columns.take(some)), task.values[some])
        if task.kind == "regression" and len(unseen):
            residuals = task.values[unseen] - estimator.predict(matrix(columns.take(unseen)))
            noise = max(float(np.sqrt(np.mean(residuals**2))), 1e-12)
        now = time.monotonic()
        bigger = min(most, size * 4)
        if size >= most or now - started + (now - began) * 1.5 * bigger / size > seconds:
            break
        size = bigger
    predict = _predictor(estimator, matrix, task, noise)
    return Baseline(kind.name, predict, size, len(rows), time.monotonic() - started)


def _shuffled(rows: np.ndarray, task: Task, seed: int) -> np.ndarray:
    """Rows in random order, but one of each class first."""
    order = np.random.default_rng(seed).permutation(rows)
    if not task.is_classification:
        return order
    firsts = np.unique(task.values[order], return_index=True)[1]
    return np.concatenate([order[firsts], np.delete(order, firsts)])


def _matrix_maker(kind: _Kind, columns: Columns, preparation: Preparation) -> Callable[[Columns], np.ndarray]:
    """How rows become a matrix for this kind of estimator."""
    sizes = preparation.cardinalities

    def for_trees(part: Columns) -> np.ndarray:
        categories = preparation.apply(part).categories.numpy()
        numbers = part.numbers
        if kind.name == "random_forest":
            numbers = np.where(np.isnan(numbers), preparation.centre, numbers)
        return np.concatenate([numbers, categories], axis=1)

    def for_others(part: Columns) -> np.ndarray:
        inputs = preparation.apply(part)
        blocks = [inputs.numbers.numpy().astype(np.float64)]
        for j, size in enumerate(sizes):
            if size <= _ONE_HOT:
                blocks.append(np.eye(size)[inputs.categories[:, j].numpy()])
        return np.concatenate(blocks, axis=1)

    return for_trees if kind.trees else for_others


def _predictor(
    estimator: Any, matrix: Callable[[Columns], np.ndarray], task: Task, noise: float
) -> Callable[[Columns], Predictive]:
    def classes(part: Columns) -> Predictive:
        found = np.full((len(part), len(task.classes)), 1e-12)
        found[:, estimator.classes_.astype(int)] = np.clip(estimator.predict_proba(matrix(part)), 1e-12, 1)
        return ClassPredictive(found / found.sum(1, keepdims=True))

    def counts(part: Columns) -> Predictive:
        return CountPredictive(np.maximum(estimator.predict(matrix(part)), 1e-6)[None])

    def reals(part: Columns) -> Predictive:
        mean = estimator.predict(matrix(part))[None]
        return RealPredictive(mean, np.full_like(mean, noise), TargetPreparation("real"))

    return {"classification": classes, "count": counts, "regression": reals}[task.kind]
