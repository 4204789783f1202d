"""The process that baselines run in: numpy, scikit-learn and boosting alone, so that it starts soon and can be ended.

Run by its path. A job comes on stdin and answers go to stdout, as messages: a line of JSON that says which arrays
follow, then their bytes; nothing is pickled. A job holds the matrices of the training rows, in the order in which
fits grow, and of the rows to be predicted, and the targets, a column for each question that is asked. Each kind takes
the one of its matrices that serves it best and is fitted on growing parts of the rows while its share of the seconds
lasts. Every fit's predictions are answered at once: whoever ends this process keeps the last. Boosted trees that a
model may hold are answered as arrays with their last fit.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import io
import json
import math
import os
import queue
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np

_OBJECTS = 20_000  # between two looks for garbage, which would hold imports up
_READY = 0.6  # of its share, after which a fit that can be ended is
_AT_ONCE = 5_000  # rows that are predicted together: estimators make copies of them
UNSEEN = 2000  # rows beyond those fitted on that tell a regression's noise
Message = tuple[dict[str, Any], list[np.ndarray]]


def send(pipe: IO[bytes], record: Mapping[str, Any], arrays: Sequence[np.ndarray] = ()) -> None:
    """Write one message."""
    forms = [[array.dtype.str, list(array.shape)] for array in arrays]
    pipe.write(json.dumps({**record, "arrays": forms}).encode() + b"\n")
    for array in arrays:
        pipe.write(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    pipe.flush()


def receive(pipe: IO[bytes]) -> Message | None:
    """Read one message; None when the other side has ended, be it in the middle of one."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        return None
    record, arrays = json.loads(line), []
    for form, shape in record.pop("arrays"):
        flat = np.empty(math.prod(shape), form)
        if flat.size and pipe.readinto(flat.data.cast("B")) < flat.nbytes:  # type: ignore[attr-defined]
            return None
        arrays.append(flat.reshape(shape))
    return record, arrays


class Turn:
    """Until when a fit may go on, for those that can be ended with what they have; the worker sets it."""

    ends = float("inf")

    def after_iteration(self, info: Any) -> bool:
        """CatBoost asks after each tree."""
        return time.monotonic() < self.ends


TURN = Turn()


def makers(
    task: str, near: int, seed: int, threads: int, categories: Sequence[int] = ()
) -> dict[str, Callable[[], Any]]:
    """An estimator of each kind, for "classification", "count" or "regression"; ``near`` neighbours, and which columns
    of the trees' matrix are numbers of ``categories``.
    """
    from sklearn import dummy, ensemble, linear_model, neighbors

    boosted = {
        "lightgbm": lambda: LightGbm(task, categories, seed, threads),
        "catboost": lambda: CatBoost(task, categories, seed, threads),
    }

    words = {
        "classification": lambda: linear_model.LogisticRegression(C=4.0, max_iter=1000),
        "count": lambda: linear_model.PoissonRegressor(max_iter=1000),
        "regression": lambda: linear_model.Ridge(),
    }
    if task == "classification":
        return {
            "constant": lambda: dummy.DummyClassifier(strategy="prior"),
            "linear": lambda: linear_model.LogisticRegression(max_iter=1000),
            "k_nearest_neighbours": lambda: neighbors.KNeighborsClassifier(near, n_jobs=threads),
            "random_forest": lambda: ensemble.RandomForestClassifier(n_jobs=threads, random_state=seed),
            "gradient_boosting": lambda: ensemble.HistGradientBoostingClassifier(random_state=seed),
            **boosted,
            "linear_on_words": lambda: on_words(words[task]()),
        }
    loss = "poisson" if task == "count" else "squared_error"
    linear = {
        "count": lambda: linear_model.PoissonRegressor(max_iter=1000),
        "regression": lambda: linear_model.RidgeCV(np.logspace(-2, 4, 25)),
    }
    return {
        "constant": dummy.DummyRegressor,
        "linear": linear[task],
        "k_nearest_neighbours": lambda: neighbors.KNeighborsRegressor(near, n_jobs=threads),
        "random_forest": lambda: ensemble.RandomForestRegressor(n_jobs=threads, random_state=seed),
        "gradient_boosting": lambda: ensemble.HistGradientBoostingRegressor(loss=loss, random_state=seed),
        **boosted,
        "linear_on_words": lambda: on_words(words[task]()),
    }


class LightGbm:
    """LightGBM with 400 trees, categories as such (Ke et al. 2017)."""

    def __init__(self, task: str, categories: Sequence[int], seed: int, threads: int) -> None:
        import lightgbm

        known = lightgbm.LGBMClassifier if task == "classification" else lightgbm.LGBMRegressor
        options: dict[str, Any] = {"objective": "poisson"} if task == "count" else {}
        own = known(n_estimators=400, learning_rate=0.05, verbose=-1, n_jobs=threads, random_state=seed, **options)
        self.estimator, self.categories = own, list(categories)

    def fit(self, rows: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None = None) -> LightGbm:
        """See scikit-learn."""
        self.estimator.fit(rows, targets, sample_weight, categorical_feature=self.categories)
        self.classes_ = getattr(self.estimator, "classes_", None)
        return self

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Values."""
        return np.asarray(self.estimator.predict(rows))

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        """Probabilities."""
        return np.asarray(self.estimator.predict_proba(rows))

    def packed(self) -> dict[str, np.ndarray]:
        """Its own file."""
        return {"file": np.frombuffer(self.estimator.booster_.model_to_string().encode(), dtype=np.uint8)}


class CatBoost:
    """CatBoost by its defaults, 1,000 trees or as many as its time allows (Prokhorenkova et al. 2018)."""

    def __init__(self, task: str, categories: Sequence[int], seed: int, threads: int) -> None:
        catboost = importlib.import_module("catboost")
        known = catboost.CatBoostClassifier if task == "classification" else catboost.CatBoostRegressor
        options: dict[str, Any] = {"loss_function": "Poisson"} if task == "count" else {}
        self.estimator = known(verbose=0, allow_writing_files=False, thread_count=threads, random_seed=seed, **options)
        self.categories = list(categories)

    def fit(self, rows: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None = None) -> CatBoost:
        """See scikit-learn."""
        table = framed(rows, self.categories)
        self.estimator.fit(table, targets, cat_features=self.categories, sample_weight=sample_weight, callbacks=[TURN])
        self.classes_ = getattr(self.estimator, "classes_", None)
        return self

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Values."""
        return np.asarray(self.estimator.predict(framed(rows, self.categories)))

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        """Probabilities."""
        return np.asarray(self.estimator.predict_proba(framed(rows, self.categories)))

    def packed(self) -> dict[str, np.ndarray]:
        """Its own file, and which columns are categories."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "trees.cbm")
            self.estimator.save_model(path)
            with open(path, "rb") as file:
                content = np.frombuffer(file.read(), dtype=np.uint8)
        return {"file": content, "categories": np.array(self.categories, dtype=np.int64)}


def framed(rows: np.ndarray, categories: Sequence[int]) -> Any:
    """A matrix as a frame whose categories are whole numbers, as CatBoost wants them."""
    import pandas as pd

    return pd.DataFrame(rows).astype(dict.fromkeys(categories, np.int64))


def packed(estimator: Any) -> dict[str, np.ndarray] | None:
    """A fitted estimator as arrays from which it can be asked elsewhere; None where that is not known."""
    if hasattr(estimator, "packed"):
        found: dict[str, np.ndarray] = estimator.packed()
        return found
    if not hasattr(estimator, "_predictors"):
        return None
    trees = [(output, tree.nodes) for each in estimator._predictors for output, tree in enumerate(each)]
    nodes = np.concatenate([own for _, own in trees])
    sizes = [len(own) for _, own in trees]
    return {
        "start": np.asarray(estimator._baseline_prediction, dtype=np.float64).reshape(-1),
        "first": np.cumsum([0, *sizes[:-1]]).astype(np.int64),
        "output": np.array([output for output, _ in trees], dtype=np.int64),
        "value": nodes["value"].astype(np.float64),
        "feature": nodes["feature_idx"].astype(np.int64),
        "threshold": nodes["num_threshold"].astype(np.float64),
        "missing_left": nodes["missing_go_to_left"].astype(bool),
        "left": nodes["left"].astype(np.int64),
        "right": nodes["right"].astype(np.int64),
        "leaf": nodes["is_leaf"].astype(bool),
    }


def on_words(estimator: Any) -> Any:
    """An estimator of how often words stand in texts, weighed by how rare they are (Salton & Buckley 1988)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    return make_pipeline(TfidfVectorizer(analyzer=_words_of, sublinear_tf=True), estimator)


def _words_of(row: np.ndarray) -> list[int]:
    return row[row > 0].tolist()


def fit_growing(
    makes: Sequence[Callable[[], Any]],
    job: Mapping[str, Any],
    kind: Mapping[str, Any],
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None],
    seconds: float,
    answer: Callable[[dict[str, Any], list[np.ndarray]], None],
) -> None:
    """Fits of growing size until all rows are in or the time is; each answers with what it predicts.

    An estimator is fitted for each question, the columns of the targets. What is kept comes with its trees, and with
    what fits on the other folds say of each row, if there is time for them.
    """
    train, _, targets, weights = arrays
    started = time.monotonic()
    size, noise = kind["first"], [0.0] * len(makes)
    while True:
        began = time.monotonic()
        found, classes = [], []
        for q, (make, task) in enumerate(zip(makes, job["tasks"], strict=True)):
            said, known, noise[q], estimator = _fit_one(make(), task, q, size, arrays, noise[q], len(makes) > 1)
            found.append(said)
            classes.append(known)
        now = time.monotonic()
        bigger = min(kind["most"], size * 4)
        last = size >= kind["most"] or now - started + (now - began) * 1.5 * bigger / size > seconds
        record = {"kind": kind["name"], "rows": size, "noise": noise, "classes": classes}
        if last and kind.get("kept") and (trees := packed(estimator)) is not None:
            record |= {"packed": list(trees), "held": False}
            found += trees.values()
            if job["folds"] and size == len(train) and (now - began) * len(job["folds"]) < started + seconds - now:
                answer({**record, "seconds": now - started, "last": False}, found)  # whatever becomes of the rest
                found.insert(1, out_of_fold(makes[0], job, (train, targets[:, 0], weights)))
                record["held"] = True
                now = time.monotonic()
        answer({**record, "seconds": now - started, "last": last}, found)
        if last:
            return
        size = bigger


def _fit_one(
    estimator: Any,
    task: str,
    q: int,
    size: int,
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None],
    noise: float,
    several: bool,
) -> tuple[np.ndarray, list[int], float, Any]:
    """An estimator of one question on the first rows: its answers, its classes, a regression's noise, and itself.

    The noise is the deviation of residuals on rows that were left out; where none are, what it was before, or else the
    deviation on the training rows.
    """
    train, wanted, targets, weights = arrays
    own, known = asked(targets[:size, q], task)
    if several and task == "classification" and len(np.unique(own)) == 1:  # of several questions one may be too easy
        return np.ones((len(wanted), 1)), [int(own[0])], 1.0, None
    fitted(estimator, train[:size][known], own, None if weights is None else weights[:size][known])
    if task == "classification":
        said = _in_pieces(estimator.predict_proba, wanted) if len(wanted) else np.empty((0, 0))
        classes = estimator.classes_.astype(int).tolist()
        if len(wanted) and said.shape[1] != len(classes):  # boosting speaks of two classes where it saw one
            raise ValueError("the training rows hold a single class")
        return said, classes, 1.0, estimator
    unseen = slice(size, min(size + UNSEEN, len(train)))
    rest, there = asked(targets[unseen, q], task)
    left_out = len(rest) > 0  # of rows that none of them saw there may be none
    if task == "regression" and (left_out or not noise):
        rows, values, index = (train[unseen], rest, there) if left_out else (train[:size], own, known)
        weighs = None if weights is None else (weights[unseen] if left_out else weights[:size])[index]
        residuals = values - estimator.predict(rows[index])
        noise = max(float(np.sqrt(np.average(residuals**2, weights=weighs))), 1e-12)
    return _in_pieces(estimator.predict, wanted) if len(wanted) else np.empty((0,)), [], noise or 1.0, estimator


def _in_pieces(predict: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> np.ndarray:
    """What an estimator says of rows, so many at a time."""
    return np.concatenate([predict(rows[start : start + _AT_ONCE]) for start in range(0, len(rows), _AT_ONCE)])


def out_of_fold(
    make: Callable[[], Any], job: Mapping[str, Any], given: tuple[np.ndarray, np.ndarray, np.ndarray | None]
) -> np.ndarray:
    """What fits on the other folds say of each row: values [n], or probabilities [n, classes] by class number."""
    train, values, weights = given
    task = job["tasks"][0]
    TURN.ends = float("inf")  # as many trees as the fit on all rows, which had the time for all of its own
    every = np.arange(len(train))
    said = np.zeros(len(train)) if task != "classification" else np.zeros((len(train), int(values.max()) + 1))
    for fold in job["folds"]:
        own, rest = np.array(fold, dtype=np.int64), np.setdiff1d(every, fold)
        targets, _ = asked(values[rest], task)
        estimator = fitted(make(), train[rest], targets, None if weights is None else weights[rest])
        if task == "classification":
            said[np.ix_(own, estimator.classes_.astype(int))] = estimator.predict_proba(train[own])
        else:
            said[own] = estimator.predict(train[own])
    return said


def asked(targets: np.ndarray, task: str) -> tuple[np.ndarray, Any]:
    """The values of one question that are known, and which rows those are: an index, all of them where none is not."""
    gone = np.isnan(targets)
    known: Any = ~gone if gone.any() else slice(None)
    own = targets[known]
    return (own.astype(np.int64) if task == "classification" else own), known


def fitted(estimator: Any, rows: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> Any:
    """The estimator fitted on these rows, as they weigh where it can weigh them (neighbours cannot)."""
    if weights is None or "sample_weight" not in inspect.signature(estimator.fit).parameters:
        return estimator.fit(rows, targets)
    return estimator.fit(rows, targets, sample_weight=weights)


def best_matrix(
    makes: Sequence[Callable[[], Any]],
    tasks: Sequence[str],
    names: Sequence[str],
    named: Mapping[str, np.ndarray],
    size: int,
) -> str:
    """Of several matrices of the same rows the one with the best score on the last fifth of the first ``size`` rows,
    summed over the questions.
    """
    if len(names) == 1:
        return names[0]
    cut, total = max(1, round(0.8 * size)), dict.fromkeys(names, 0.0)
    for q, (make, task) in enumerate(zip(makes, tasks, strict=True)):
        own, known = asked(named["targets"][:cut, q], task)
        rest, there = asked(named["targets"][cut:size, q], task)
        if len(makes) > 1 and (len(np.unique(own)) < 2 or len(rest) < 2):
            continue
        for name in names:
            rows = named[f"train.{name}"]
            total[name] += float(make().fit(rows[:cut][known], own).score(rows[cut:size][there], rest))

    return max(names, key=lambda name: total[name])


def work(job: Mapping[str, Any], arrays: Sequence[np.ndarray], answer: Callable[..., None]) -> None:
    """All kinds of a job, one after the other; each has an even share of the seconds that are left."""
    from threadpoolctl import threadpool_limits

    named = dict(zip(job["names"], arrays, strict=True))
    own = (job["near"], job["seed"], job["threads"], job.get("categories", ()))
    tables = {task: makers(task, *own) for task in set(job["tasks"])}
    ends = time.monotonic() + (float("inf") if job["seconds"] is None else job["seconds"])
    with threadpool_limits(job["threads"]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a baseline that has not quite converged is still a baseline
        for i, kind in enumerate(job["kinds"]):
            share = (ends - time.monotonic()) / (len(job["kinds"]) - i)
            answer({"kind": kind["name"], "share": None if share == float("inf") else share})
            TURN.ends = time.monotonic() + _READY * share
            makes = [tables[task][kind["name"]] for task in job["tasks"]]
            try:
                matrix = best_matrix(makes, job["tasks"], kind["matrices"], named, kind["first"])
                fit_growing(
                    makes,
                    job,
                    kind,
                    (named[f"train.{matrix}"], named[f"wanted.{matrix}"], named["targets"], named.get("weights")),
                    share,
                    answer,
                )
            except Exception as error:
                if not isinstance(error, (ValueError, MemoryError)) and kind["name"] not in ("lightgbm", "catboost"):
                    raise  # those have errors of their own
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                answer({"kind": kind["name"], "failed": reason, "last": True})


def _jobs() -> Iterator[Message]:
    """Jobs from stdin, read beside the work: when the other side ends, so does this process, whatever it is doing."""
    coming: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def read() -> None:
        pipe = io.BufferedReader(io.FileIO(0, closefd=False), 1 << 20)
        while (job := receive(pipe)) is not None:
            coming.put(job)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield coming.get()


def main() -> None:
    """Import, say so, and work on jobs until stdin ends."""
    gc.set_threshold(_OBJECTS)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not come between the answers
    jobs = _jobs()
    makers("classification", 1, 0, 1)
    send(answers, {"ready": True})
    for job, arrays in jobs:
        work(job, arrays, lambda record, found=(): send(answers, record, found))
        send(answers, {"done": True})


if __name__ == "__main__":
    main()
