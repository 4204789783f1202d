"""The main job as scikit-learn estimators."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from nastavnik.arguments import fitted
from nastavnik.data import Columns, Table, with_columns
from nastavnik.errors import UserError
from nastavnik.jobs import families_of, fit_request
from nastavnik.recipe import Value
from nastavnik.runs import FitRequest, RunFolder

_TARGET, _WEIGHT = "target", "sample_weight"


class _Nastavnik(BaseEstimator):
    """What both estimators share. They take a number of networks, never a time budget, and write no files."""

    def __init__(
        self,
        networks: int = 16,
        *,
        family: Any = None,
        deliver: str = "single",
        folds: int | None = None,
        settings: Mapping[str, Value] | None = None,
        class_weights: str = "none",
        threads: int | None = None,
        device: str = "cpu",
        random_state: Any = 0,
    ) -> None:
        self.networks = networks
        self.family = family
        self.deliver = deliver
        self.folds = folds
        self.settings = settings
        self.class_weights = class_weights
        self.threads = threads
        self.device = device
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.required = True
        return tags

    def _train(self, x: pd.DataFrame, y: np.ndarray, task: str, kinds: dict[str, str], sample_weight: Any) -> None:
        targets = [_TARGET] if y.ndim == 1 else [f"{_TARGET}{j}" for j in range(y.shape[1])]
        frame = with_columns(x, dict(zip(targets, y.reshape(len(y), -1).T, strict=True)))
        if sample_weight is not None:
            frame[_WEIGHT] = _check_sample_weight(sample_weight, frame, dtype=np.float64, ensure_non_negative=True)
        seed = self.random_state
        if isinstance(seed, (bool, np.bool_)):
            raise UserError(f"random_state must be a whole number or a generator of numpy's, but got {seed!r}")
        if not isinstance(seed, (int, np.integer)):
            try:
                seed = check_random_state(seed).randint(2**31 - 1)
            except ValueError as error:
                raise UserError(f"random_state: {error}") from error
        names, own = families_of(self.family)
        settings = fitted("settings", self.settings, Mapping[str, Value] | None)
        request = FitRequest(
            target=",".join(targets),
            networks=self.networks,
            seed=int(seed),
            families=names,
            deliver=self.deliver,
            device=self.device,
            threads=self.threads,
            task=task,
            settings=dict(settings or {}),
            kinds={**kinds, **dict.fromkeys(targets, "category" if task == "classification" else "number")},
            folds=self.folds,
            test=0.0,
            class_weights=self.class_weights,
            weights=None if sample_weight is None else _WEIGHT,
        )
        table = Table(frame, "arrays", {"kind": "arrays"}, target=request.target)
        run = fit_request(
            request, RunFolder(None, {"status": "running"}), source=table, family=own, extras=False, fewest_rows=2
        )
        self.model_, self.result_ = run.model, run.result

    def _frame(self, x: Any, **options: Any) -> tuple[pd.DataFrame, np.ndarray | None, dict[str, str]]:
        """Inputs checked as scikit-learn does; a frame with words, dates or booleans keeps its columns' kinds."""
        if isinstance(x, pd.DataFrame) and not all(pd.api.types.is_numeric_dtype(t) for t in x.dtypes):
            checked = validate_data(self, x, skip_check_array=True, **options)
            y = None
            if isinstance(checked, tuple):
                checked, y = checked
                y = np.asarray(y)
            frame = checked.set_axis([f"x{j}" for j in range(checked.shape[1])], axis=1).reset_index(drop=True)
            return frame, y, {}
        checked = validate_data(self, x, dtype=np.float64, ensure_all_finite="allow-nan", **options)
        x, y = checked if isinstance(checked, tuple) else (checked, None)
        frame = pd.DataFrame(x, columns=[f"x{j}" for j in range(x.shape[1])])
        return frame, y, dict.fromkeys(frame.columns, "number")

    def _columns(self, x: Any) -> Columns:
        check_is_fitted(self)
        return self.model_.read(self._frame(x, reset=False)[0])


class NastavnikClassifier(ClassifierMixin, _Nastavnik):
    """A population of networks searched, one chosen: a classifier by scikit-learn's rules.

    Args:
        networks: how many to train, folds counted.
        family: names of families, or your own ``make(inputs, outputs) -> nn.Module``.
        deliver: "single", "ensemble", "blend" or "best".
        folds: of cross-validation; None for 5 under 2,000 rows where the networks allow it, 0 for a hold-out.
        settings: parts of the recipe that are given and not searched, by dotted name.
        class_weights: "none" or "balanced".
        threads: processor threads; None for torch's own number.
        device: "cpu", "cuda" or "mps".
        random_state: decides everything random.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> x, y = load_iris(return_X_y=True)
        >>> NastavnikClassifier(networks=2).fit(x, y).score(x, y) > 0.9
        True
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NastavnikClassifier:
        """Train on inputs [n, d] and class labels [n]; ``sample_weight`` [n] says how much each row counts."""
        frame, labels, kinds = self._frame(X, y=y)
        assert labels is not None
        check_classification_targets(labels)
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"a classifier needs at least 2 classes, but the target has 1 class: {self.classes_[0]!r}")
        self._train(frame, numbers, "classification", kinds, sample_weight)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities [n, classes], in the order of ``classes_``."""
        columns = self._columns(X)
        predictive: Any = self.model_.predictive(columns)
        order = [self.model_.classes.index(str(i)) for i in range(len(self.classes_))]
        return predictive.probabilities[:, order]

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row [n]."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]


class NastavnikRegressor(MultiOutputMixin, RegressorMixin, _Nastavnik):
    """A population of networks searched, one chosen: a regressor by scikit-learn's rules.

    The arguments are those of ``NastavnikClassifier``. Several targets [n, targets] are learned by one network.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> x, y = load_diabetes(return_X_y=True)
        >>> NastavnikRegressor(networks=2).fit(x, y).score(x, y) > 0.4
        True
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NastavnikRegressor:
        """Train on inputs [n, d] and real values [n] or [n, targets]; ``sample_weight`` [n] weighs the rows."""
        frame, values, kinds = self._frame(X, y=y, y_numeric=True, multi_output=True, ensure_min_samples=2)
        assert values is not None
        values = values.astype(np.float64)
        if values.ndim == 2 and values.shape[1] == 1:
            text = "a column-vector y was passed when a 1d array was expected"
            warnings.warn(text, DataConversionWarning, stacklevel=2)
            values = values[:, 0]
        for j, own in enumerate(values.reshape(len(values), -1).T):
            if np.ptp(own) == 0:
                which = f" of target {j}" if values.ndim > 1 else ""
                raise ValueError(f"a regressor needs a target that varies, but every value{which} is {float(own[0])!r}")
        self._train(frame, values, "regression", kinds, sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The mean of each row's target [n], or targets [n, targets]."""
        columns = self._columns(X)
        return self.model_.predictive(columns).point()
