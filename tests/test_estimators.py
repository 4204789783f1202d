import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from nastavnik import NastavnikClassifier, NastavnikRegressor


@pytest.mark.filterwarnings("ignore")  # the checks provoke scikit-learn's own warnings on purpose
@pytest.mark.parametrize("estimator", [NastavnikClassifier, NastavnikRegressor])
def test_scikit_learns_own_checks_pass_without_exception(estimator: type) -> None:
    # weights are kept by drawing rows as often as they weigh: training on them is not training on repeated rows, bit by bit
    drawn = {"check_sample_weight_equivalence_on_dense_data": "rows are drawn by their weights"}
    results = check_estimator(
        estimator(networks=2, settings={"epochs": 20}), on_skip=None, on_fail=None, expected_failed_checks=drawn
    )
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] in ("failed", "xfail")}
    assert set(failed) <= set(drawn)
    assert len(results) > 45


def test_a_classifier_with_words_and_string_classes(houses: pd.DataFrame) -> None:
    x, y = houses.drop(columns="town"), houses["town"]
    classifier = NastavnikClassifier(networks=3, random_state=1).fit(x, y)
    assert classifier.classes_.tolist() == ["Bonn", "Kiel", "Ulm"]
    proba = classifier.predict_proba(x)
    np.testing.assert_allclose(proba.sum(1), 1)
    assert (classifier.predict(x) == classifier.classes_[proba.argmax(1)]).all()


def test_in_a_pipeline_and_a_grid() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), NastavnikClassifier(networks=1, settings={"epochs": 3}))
    search = GridSearchCV(pipeline, {"nastavnikclassifier__family": ["linear", "mlp"]}, cv=2).fit(x, y)
    assert search.best_score_ > 0.9


def test_more_classes_than_ten_keep_their_order(rng: np.random.Generator) -> None:
    y = np.repeat(np.arange(12), 25)
    x = y[:, None] + rng.normal(0, 0.05, (300, 1))
    classifier = NastavnikClassifier(
        networks=1, family="mlp", settings={"epochs": 100, "network.embedding": "piecewise"}
    )
    assert classifier.fit(x, y).score(x, y) > 0.8


def test_a_regressor_takes_missing_values_and_any_random_state() -> None:
    x, y = load_diabetes(return_X_y=True)
    x[::7, 2] = np.nan
    fits = [NastavnikRegressor(networks=2, random_state=np.random.RandomState(3)).fit(x, y) for _ in range(2)]
    np.testing.assert_array_equal(fits[0].predict(x), fits[1].predict(x))
    assert fits[0].score(x, y) > 0.3
    with pytest.raises(ValueError, match="target that varies"):
        NastavnikRegressor().fit(x, np.ones(len(x)))
