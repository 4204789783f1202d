"""Kinds of targets: how columns become them, and what each says of predictions, held against other people's numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk
from sklearn.linear_model import Ridge

from nastavnik.data import SeveralPreparations, TargetPreparation, read_source
from nastavnik.dataset import DatasetOptions, make_dataset
from nastavnik.errors import UserError
from nastavnik.metrics import headline, lead, scores
from nastavnik.population import Data, Learner, Population
from nastavnik.predictive import ClassPredictive, JointPredictive, LabelsPredictive, RealPredictive, VotesPredictive
from nastavnik.recipe import Recipe
from nastavnik.selection import fit_baselines
from nastavnik.selection._workbench import _filled
from nastavnik.targets import TARGETS, Classification, Labels, Regression, Several, Votes, target_of
from nastavnik.training.likelihoods import (
    Bernoulli,
    Categorical,
    Gamma,
    Gaussian,
    Hurdle,
    Likelihood,
    MultiLabel,
    Ordinal,
    Poisson,
    Vector,
)
from nastavnik.training.likelihoods import Several as SeveralLikelihood
from nastavnik.training.likelihoods import Votes as VotesLikelihood


def table(n: int = 300, seed: int = 0) -> pd.DataFrame:
    """Two inputs, and targets of every kind; some cells of ``price`` and ``sold`` are missing."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    price = x @ [1.0, 2.0] + 0.3 * rng.normal(size=n)
    frame = pd.DataFrame(x, columns=["a", "b"])
    frame["price"] = np.where(rng.random(n) < 0.3, np.nan, price)
    sold = pd.Series(np.where(price + rng.normal(size=n) > 0, "yes", "no"))
    frame["sold"] = sold.mask(rng.random(n) < 0.2)
    there = x @ rng.normal(size=(2, 3)) + 0.3 * rng.normal(size=(n, 3)) > 0
    frame["tags"] = [
        "[" + ", ".join(w for w, b in zip(("red", "big", "old"), row, strict=True) if b) + "]" for row in there
    ]
    shares = np.exp(x @ rng.normal(size=(2, 3)))
    votes = np.stack([rng.multinomial(5, row / row.sum()) for row in shares])
    return frame.assign(cat=votes[:, 0], dog=votes[:, 1], owl=votes[:, 2])


def made(target: str, task: str | None = None, **options: object):  # type: ignore[no-untyped-def]
    rest = [n for n in ("price", "sold", "tags", "cat", "dog", "owl") if n not in target.split(",")]
    own = DatasetOptions(target=target, task=task, drop=tuple(rest), **options)  # type: ignore[arg-type]
    return make_dataset(read_source(table()), own)


def test_columns_become_the_kind_they_are_or_the_one_asked_for() -> None:
    assert isinstance(made("tags").task.target, Labels)
    assert made("tags").task.classes == ("big", "old", "red")
    assert isinstance(made("cat,dog,owl", "votes").task.target, Votes)
    several = made("price,sold,cat", "cat=count").task
    assert [part.kind for part in several.target.parts] == ["regression", "classification", "count"]
    raw = table()
    np.testing.assert_array_equal(np.isnan(several.values[:, 0]), raw["price"].isna())
    np.testing.assert_array_equal(np.isnan(several.values[:, 1]), raw["sold"].isna())
    np.testing.assert_array_equal(several.values[:, 2], raw["cat"])
    one, rows = several.singles()[1]
    np.testing.assert_array_equal(rows, np.flatnonzero(raw["sold"].notna()))
    assert [one.classes[int(v)] for v in one.values[rows]] == raw["sold"][rows].tolist()


def test_rows_without_any_target_are_left_out_and_rows_with_one_are_kept() -> None:
    dataset = made("price,sold")
    raw = table()
    both = raw["price"].isna() & raw["sold"].isna()
    assert both.any()
    np.testing.assert_array_equal(dataset.unlabelled, np.flatnonzero(both))


@pytest.mark.parametrize(
    ("target", "task", "said"),
    [
        ("price,price", None, "--target names 'price' twice"),
        ("price,,sold", None, "holds an empty name"),
        ("price,solt", None, "there is no column 'solt'; did you mean 'sold'"),
        ("price,sold", "sold=shares", "--task must be one of .*'shares'"),
        ("price,sold", "cat=count", "'cat' is no target"),
        ("price,sold", "price=count,price=regression", "says twice what 'price' is"),
        ("price,sold", "votes,price=count", "'votes' is no NAME=KIND, such as price=regression"),
        ("cat,dog", "cat=votes", "reads all targets together"),
        ("price,sold", "regression", "--task regression needs numbers, but the target 'sold'"),
        ("cat", "votes", "needs a column for each class"),
        ("price,price,sold", None, "--target names 'price' twice"),
        ("price,cat", "votes", "numbers from 0 up, but 'price'"),
        ("sold", "labels", "needs several names in a cell, but the target 'sold' is a"),
    ],
)
def test_what_cannot_be_is_said(target: str, task: str | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        made(target, task)


def test_a_name_with_a_comma_is_one_column() -> None:
    frame = table().rename(columns={"cat": "cat, or dog"})
    own = DatasetOptions(target="cat, or dog", drop=("price", "sold", "tags"))
    assert make_dataset(read_source(frame), own).task.name == "cat, or dog"


def test_votes_of_nobody_are_refused() -> None:
    frame = table()
    frame.loc[7, ["cat", "dog", "owl"]] = 0
    own = DatasetOptions(target="cat,dog,owl", task="votes", drop=("price", "sold", "tags"))
    with pytest.raises(UserError, match="nobody voted in row 8"):
        make_dataset(read_source(frame), own)


@pytest.mark.parametrize("target", [*TARGETS], ids=str)
def test_every_kind_reads_its_own_record_again(target: str) -> None:
    own = TARGETS[target]("y", ("1", "2", "3") if target not in ("regression", "count") else ())
    assert target_of(own.to_json()) == own
    both, _ = Several.of([(own, np.zeros(3)), (Regression("z"), np.zeros(3))], {"z": 2.0})
    assert target_of(both.to_json()) == both


# Scores


def test_labels_are_scored_as_scikit_learn_scores_them(rng: np.random.Generator) -> None:
    p, y = rng.random((200, 4)), (rng.random((200, 4)) < 0.4).astype(float)
    own = LabelsPredictive(p)
    found = scores(own, y)
    said = p > 0.5
    assert found["f1"]["value"] == pytest.approx(sk.f1_score(y, said, average="micro"))
    assert found["exact"]["value"] == pytest.approx(sk.accuracy_score(y, said))
    assert found["nll"]["value"] == pytest.approx(4 * sk.log_loss(y.ravel(), p.ravel()))
    assert headline(found) == "f1"


def test_votes_have_the_multinomials_probability(rng: np.random.Generator) -> None:
    p = rng.dirichlet(np.ones(3), 50)
    y = np.stack([rng.multinomial(6, row) for row in p]).astype(float)
    expected = -stats.multinomial.logpmf(y, 6, p)
    np.testing.assert_allclose(VotesPredictive(p).neg_log_likelihood(y), expected, rtol=1e-9)
    shares = VotesPredictive(p).metrics(p)["distance"](np.ones((1, 50)))
    assert shares[0] == pytest.approx(0, abs=1e-12)


def test_a_lead_is_a_paired_difference_of_the_headline(rng: np.random.Generator) -> None:
    y = rng.normal(size=400)
    noise = rng.normal(size=400)
    target = TargetPreparation("real")

    def guess(error: float) -> RealPredictive:
        return RealPredictive((y + error * noise)[None], np.ones((1, 400)), target)

    found = lead(guess(0.1), guess(0.2), y)
    expected = sk.r2_score(y, y + 0.1 * noise) - sk.r2_score(y, y + 0.2 * noise)
    assert found["value"] == pytest.approx(expected)
    assert 0 < found["low"] < found["value"] < found["high"] < 0.06


def test_several_targets_are_independent_and_what_is_missing_says_nothing(rng: np.random.Generator) -> None:
    price = RealPredictive(rng.normal(size=(1, 5)), np.ones((1, 5)), TargetPreparation("real"))
    sold = ClassPredictive(rng.dirichlet(np.ones(2), 5))
    y = np.array([[0.1, 1], [np.nan, 0], [0.3, np.nan], [np.nan, np.nan], [-1.0, 1]])
    joint = JointPredictive((price, sold), (1, 1))
    each = joint.neg_log_likelihood(y)
    a, b = price.neg_log_likelihood(np.nan_to_num(y[:, 0])), sold.neg_log_likelihood(np.nan_to_num(y[:, 1]))
    np.testing.assert_allclose(each, [a[0] + b[0], b[1], a[2], 0, a[4] + b[4]])
    np.testing.assert_allclose(joint.take(np.array([4, 0])).neg_log_likelihood(y[[4, 0]]), each[[4, 0]])
    mixed = JointPredictive.joined([joint, joint])
    np.testing.assert_allclose(mixed.neg_log_likelihood(y), each)
    order = np.array([2, 0, 4, 1, 3])
    parts = [joint.take(order[:3]), joint.take(order[3:])]
    np.testing.assert_allclose(JointPredictive.stitched(parts, np.argsort(order)).neg_log_likelihood(y), each)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 1e3), st.booleans(), st.booleans()), min_size=2, max_size=30))
def test_preparations_of_several_are_those_of_each_and_come_again(rows: list[tuple[float, bool, bool]]) -> None:
    y = np.array([[v if known else np.nan, float(yes)] for v, yes, known in rows])
    real = TargetPreparation("real", (), "log", 1.0, 1.5, 0.7)
    both = SeveralPreparations.of([real, TargetPreparation("class", ("a", "b"))], (1, 1))
    again = TargetPreparation.from_json(both.to_json())
    assert again == both
    prepared = again.apply(y).numpy()
    known = ~np.isnan(y[:, 0])
    np.testing.assert_array_equal(np.isnan(prepared[:, 0]), ~known)
    np.testing.assert_array_equal(prepared[known, 0], real.apply(y[known, 0]).numpy())
    np.testing.assert_array_equal(prepared[:, 1], y[:, 1])
    np.testing.assert_allclose(again.log_jacobian(y)[known], real.log_jacobian(y[known, 0]))
    assert (again.log_jacobian(y)[~known] == 0).all()


# The likelihood


def several() -> SeveralLikelihood:
    return SeveralLikelihood([Gaussian(), Categorical(3), MultiLabel(2), Poisson()], (1, 1, 2, 1))


def test_a_missing_value_leaves_the_others_and_gives_no_gradient() -> None:
    torch.manual_seed(0)
    own = several().double()
    outputs = torch.randn(4, own.outputs, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[0.5, 2, 1, 0, 3], [torch.nan, 1, 0, 0, 2], [0.1, torch.nan, 1, 1, 1], [1, 0, torch.nan, 1, 0]])
    y = y.double()
    gauss, classes, labels, counts = own.members
    expected = torch.stack(
        [
            gauss.neg_log_likelihood(outputs[:, :1], y[:, 0]).nan_to_num(0),
            classes.neg_log_likelihood(outputs[:, 1:4], y[:, 1].nan_to_num(0).long()) * torch.tensor([1, 1, 0, 1]),
            labels.neg_log_likelihood(outputs[:, 4:6], y[:, 2:4].nan_to_num(0)) * torch.tensor([1, 1, 1, 0]),
            counts.neg_log_likelihood(outputs[:, 6:], y[:, 4]),
        ]
    ).sum(0)
    losses = own.neg_log_likelihood(outputs, y)
    torch.testing.assert_close(losses, expected)
    losses.sum().backward()
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()
    assert outputs.grad[1, 0] == 0
    assert (outputs.grad[2, 1:4] == 0).all()
    assert (outputs.grad[3, 4:6] == 0).all()
    assert (outputs.grad != 0).sum() == outputs.numel() - 6


def test_curvature_of_several_is_that_of_each() -> None:
    torch.manual_seed(1)
    own = SeveralLikelihood([Gaussian(), Categorical(3)]).double()
    outputs = torch.randn(3, 4, dtype=torch.float64)
    y = torch.tensor([[0.5, 2], [torch.nan, 1], [0.1, torch.nan]], dtype=torch.float64)
    found = own.curvature(outputs, y)
    classes = own.members[1].curvature(outputs[:, 1:], torch.tensor([2, 1, 0]))
    scale = 1 / own.members[0].scale(outputs[:, :1]) ** 2  # type: ignore[operator]
    for row, (real, named) in enumerate([(1, 1), (0, 1), (1, 0)]):
        torch.testing.assert_close(found[row, 0, 0], scale[row] * real)
        torch.testing.assert_close(found[row, 1:, 1:], classes[row] * named)
        assert found[row, 0, 1:].abs().max() < 1e-9


@pytest.mark.parametrize(
    ("likelihood", "perfect", "targets"),
    [
        (Gaussian(), [[0.0], [1.0], [4.0]], [0.0, 1.0, 4.0]),
        (Poisson(), [[0.0], [0.6931472], [1.3862944]], [1.0, 2.0, 4.0]),
        (Gamma(), [[0.0], [0.6931472], [1.3862944]], [1.0, 2.0, 4.0]),
        (Bernoulli(), [[-30.0], [30.0], [30.0]], [0, 1, 1]),
        (Categorical(3), [[30.0, 0, 0], [0, 30.0, 0], [0, 0, 30.0]], [0, 1, 2]),
        (Ordinal(3), None, [0, 1, 2]),
        (MultiLabel(2), [[30.0, -30], [-30, 30], [30, 30]], [[1.0, 0], [0, 1], [1, 1]]),
        (VotesLikelihood(2), [[0.6931472, 0], [0, 0], [-0.6931472, 0]], [[2.0, 1], [1, 1], [1, 2]]),
        (Hurdle(), [[0.0, -30], [0.5, 30], [1.5, 30]], [-30.0, 0.5, 1.5]),
        (Vector(2), [[0.0, 1], [1, 5], [4, 2]], [[0.0, 1], [1, 5], [4, 2]]),
    ],
    ids=lambda v: v.name if isinstance(v, Likelihood) else "",
)
def test_standing_is_one_where_it_is_perfect_and_nothing_where_every_row_is_told_the_same(
    likelihood: Likelihood, perfect: list[list[float]] | None, targets: list[float]
) -> None:
    likelihood.requires_grad_(False)
    y, every = torch.tensor(targets), torch.ones(3, dtype=torch.bool)
    if perfect is not None:
        skill, error = likelihood.standing(torch.tensor(perfect), y, every)
        assert skill == pytest.approx(1, abs=1e-3)
        assert error.max() < 1e-3
    same = torch.zeros(3, likelihood.outputs)
    skill, error = likelihood.standing(same, y, every)
    assert skill <= 1e-5
    assert error.shape == (3,)
    some, _ = likelihood.standing(same, y, torch.tensor([True, True, False]))
    again, _ = likelihood.standing(same[:2], y[:2], every[:2])
    assert some == pytest.approx(float(again), abs=1e-5)


@pytest.mark.parametrize("engine", ["batched", "compiled"])
def test_several_targets_learn_the_same_whichever_way_they_are_run(engine: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 3)
    y = torch.stack([x[:, 0], (x[:, 1] > 0).float()], 1)
    y[::3, 0] = torch.nan
    rows = np.arange(64)
    data = Data.of([(x,)], [y], [(rows, rows)], seed=0)
    recipes = [
        Recipe({"network.family": "own", "optimizer.name": "sgd", "optimizer.learning_rate": 0.05, "batch_size": 16,
                "schedule.name": "constant", "seed": i})
        for i in range(3)
    ]  # fmt: skip

    def learners() -> list[Learner]:
        def make() -> tuple[torch.nn.Module, SeveralLikelihood]:
            hidden = [torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)]
            return torch.nn.Sequential(*hidden), SeveralLikelihood([Gaussian(), Bernoulli()])

        return [Learner.seeded(i, make) for i in range(3)]

    ends = []
    for way in ("sequential", engine):
        population = Population(learners(), recipes, data, total_steps=40, evaluations=1, instruments={}, engine=way)
        population.train(40)
        ends.append(dict(population.network(2).named_parameters()))
    for name, one in ends[0].items():
        torch.testing.assert_close(ends[1][name], one, rtol=2e-4, atol=2e-5)
    assert not torch.equal(ends[0]["likelihood.parts.0.log_noise"], torch.zeros(()))  # its noise is learned


# Baselines


def test_baselines_of_several_targets_are_scikit_learns_on_the_known_rows() -> None:
    dataset = made("price,sold")
    rows, wanted = dataset.split.development, dataset.split.test
    found = {b.name: b for b in fit_baselines(dataset.columns, dataset.task, rows, wanted, seed=0)}
    assert all(b.failed is None for b in found.values())
    said = found["constant"].predictive
    assert isinstance(said, JointPredictive)
    price, sold = dataset.task.values[rows].T
    np.testing.assert_allclose(said.parts[0].point(), np.full(len(wanted), np.nanmean(price)))
    assert isinstance(said.parts[1], ClassPredictive)
    np.testing.assert_allclose(said.parts[1].probabilities[:, 1], np.nanmean(sold), rtol=1e-6)
    linear = found["linear"].predictive
    assert isinstance(linear, JointPredictive)
    known = ~np.isnan(price)
    x = dataset.columns.numbers
    ridge = Ridge(1e-2).fit(x[rows][known], price[known]).predict(x[wanted])
    assert np.corrcoef(ridge, linear.parts[0].point())[0, 1] > 0.999


def test_a_target_that_is_hardly_known_has_baselines_in_its_own_units() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(price=x[:, 0], rare=1e6 * (x[:, 1] + 0.3 * x[:, 2] ** 2))
    frame["rare"] = frame["rare"].where(frame.index < 40)
    dataset = make_dataset(read_source(frame), DatasetOptions(target="price,rare"))
    found = fit_baselines(dataset.columns, dataset.task, dataset.split.development, dataset.split.test, seed=0)
    for one in found:
        assert one.failed is None, one.failed
        assert isinstance(one.predictive, JointPredictive)
        assert isinstance(one.predictive.parts[1], RealPredictive)
        assert one.predictive.parts[1].deviation.min() > 1e3


def test_what_is_averaged_by_level_looks_at_training_rows_only() -> None:
    y = np.arange(20.0)
    y[:5] = np.nan
    moved = np.where(np.arange(20) >= 15, y + 1000, y)  # the test rows
    filled = []
    for own in (y, moved):
        both, values = Several.of([(Regression("p"), own), (Classification("c", ("a", "b")), y % 2)], {})
        filled.append(_filled(both.averaged(values), np.arange(15)))
    np.testing.assert_array_equal(filled[0][:15], filled[1][:15])
    assert filled[0][0, 0] == np.arange(5, 15).mean()


def test_baselines_of_labels_and_votes_predict_them() -> None:
    for target, task in (("tags", None), ("cat,dog,owl", "votes")):
        dataset = made(target, task)
        y = dataset.task.values[dataset.split.test]
        found = fit_baselines(dataset.columns, dataset.task, dataset.split.development, dataset.split.test, seed=0)
        nats = {b.name: float(b.predictive.neg_log_likelihood(y).mean()) for b in found if b.predictive is not None}
        assert len(nats) == len(found)
        assert nats["linear"] < nats["constant"]


def test_kinds_are_tried_in_this_order() -> None:
    assert list(TARGETS) == ["labels", "grades", "classification", "regression", "count", "votes"]
