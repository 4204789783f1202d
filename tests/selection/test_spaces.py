"""Spaces: the numbers' axes, how much a tree holds, TOML, refinement."""

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nastavnik.errors import UserError
from nastavnik.selection import table_space
from nastavnik.space import (
    Choice,
    Limits,
    Number,
    Space,
    decode,
    flat_size,
    parse_space,
    read_space,
    refined,
    size,
    tree_in_words,
)

TREE = Space(
    {
        "family": Choice(
            {
                "knn": Space({"k": Number(1, 5, integer=True)}),
                "svm": Space(
                    {"kernel": Choice({"linear": Space(), "rbf": Space({"gamma": Number(1e-3, 1, log=True)})})}
                ),
            }
        ),
        "scale": Choice.of(True, False),
    }
)


@st.composite
def numbers(draw: st.DrawFn) -> Number:
    integer, log = draw(st.booleans()), draw(st.booleans())
    if integer:
        low = draw(st.integers(1, 50))
        return Number(low, low + draw(st.integers(0, 80)), log=log, integer=True)
    low_float = draw(st.floats(1e-6, 10))
    high = low_float + draw(st.floats(1e-3, 1e3))
    step = None if log else draw(st.one_of(st.none(), st.floats((high - low_float) / 40, high - low_float)))
    return Number(low_float, high, log=log, step=step)


@given(numbers(), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_places_and_values_answer_each_other(node: Number, place: float) -> None:
    value = node.at(place)
    assert not isinstance(value, str)
    assert node.low <= value <= node.high
    assert isinstance(value, int if node.integer else float)
    again = node.at(node.place(value))
    assert again == pytest.approx(value, rel=1e-9)
    if node.count is None:
        assert node.place(value) == pytest.approx(place, abs=1e-6)


@given(numbers(), st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_points_lie_in_the_range_and_hold_its_ends(node: Number, most: int) -> None:
    points = node.points(most)
    assert 1 <= len(points) <= max(most, 1)
    assert len(set(points)) == len(points)
    assert all(node.low <= float(p) <= node.high for p in points)
    if most > 1 and node.step is None:
        assert (points[0], points[-1]) == (node.low, node.high)


def test_a_tree_holds_what_its_branches_hold_together() -> None:
    # k: 5; svm: linear 1 + rbf 5; times scale 2
    assert size(TREE) == (5 + 1 + 5) * 2
    assert flat_size(TREE) == 2 * 5 * 2 * 5 * 2  # family, k, kernel, gamma, scale
    drawn = {frozenset(decode(TREE, i).items()) for i in range(size(TREE))}
    assert len(drawn) == size(TREE)
    words = tree_in_words(TREE)
    assert "22 combinations" in words
    assert "200, 9 times as many" in words


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_decoding_counts_through_all_combinations(counts: list[int]) -> None:
    space = Space({f"c{i}": Choice.of(*range(n)) for i, n in enumerate(counts)})
    every = {tuple(decode(space, i)[f"c{j}"] for j in range(len(counts))) for i in range(size(space))}
    assert every == set(itertools.product(*(range(n) for n in counts)))


TOML = """
epochs = 12
batch_size = [16, 32]
optimizer.learning_rate = { low = 1e-4, high = 0.1, log = true }
[network.family]
options = ["mlp", "linear"]
[network.family.when.mlp]
network.width = { low = 8, high = 64, integer = true, log = true }
network.dropout = { low = 0.0, high = 0.5, step = 0.1 }
[limits]
parameters = 5000
"""


def test_a_space_is_read_from_toml(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(TOML)
    space, limits = read_space(tmp_path / "space.toml")
    assert limits == Limits(parameters=5000)
    assert space.fixed == {"epochs": 12}
    family = space.nodes["network.family"]
    assert isinstance(family, Choice)
    assert family.branches["linear"] == Space()
    assert family.branches["mlp"].nodes["network.width"] == Number(8, 64, log=True, integer=True)
    assert family.branches["mlp"].nodes["network.dropout"] == Number(0.0, 0.5, step=0.1)


@pytest.mark.parametrize(
    "text,sentence",
    [
        ("a = [", "is no TOML"),
        ("", "it is empty"),
        ("a = []", "a needs at least one option"),
        ("a = { low = 1 }", "a needs both low and high, but high is missing"),
        ("a = { low = 2, high = 1 }", "a: low <= high must hold, but got low=2, high=1"),
        ("a = { low = 0, high = 1, log = true }", "a log axis needs low > 0"),
        ("a = { low = 0, high = 1, lgo = true }", "a cannot have 'lgo'"),
        ("a = { low = 0, high = 1, step = 0 }", "a step must be above 0"),
        ("a = { low = 0.5, high = 2, integer = true }", "a whole number needs whole ends"),
        ("a = { low = 'x', high = 2 }", "low must be a number, but got 'x'"),
        ("a = [1, 1]", "a names an option twice"),
        ("a = [[1], 2]", "an option must be a number, a word, true or false"),
        ("a = 1979-05-27", "a cannot be"),
        ("[a]\noptions = ['x']\n[a.when.y]\nb = 1", "a.when.y belongs to no option"),
        ("[limits]\nparametres = 3", "there is no limit 'parametres'; did you mean 'parameters'"),
        ("[limits]\nparameters = -3", "the limit parameters must be a number above 0"),
    ],
)
def test_what_a_space_cannot_say_is_told_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parse_space(text)


def test_a_users_space_takes_the_place_of_the_trees() -> None:
    given_space, _ = parse_space(TOML)
    space = table_space(500, 8, classification=True, given=given_space)
    assert space.fixed["epochs"] == 12
    family = space.nodes["network.family"]
    assert isinstance(family, Choice)
    assert family.options == ("mlp", "linear")
    assert family.branches["mlp"].nodes["network.width"] == Number(8, 64, log=True, integer=True)
    assert space.nodes["batch_size"] == Choice.of(16, 32)


@pytest.mark.parametrize(
    "text,sentence",
    [
        ("network.widht = [3, 4]", "there is no setting 'network.widht' in a recipe; did you mean 'network.width'"),
        ("[network.family.when.linear]\nnetwork.width = [3, 4]", "network.width would have no effect"),
        ("[network.family]\noptions = ['mpl']", "network.family cannot be 'mpl'; did you mean 'mlp'"),
        ("network.dropout = { low = 0.0, high = 1.5 }", "network.dropout must be less than 1"),
        ("optimizer.learning_rate = { low = -1.0, high = 1.5 }", "optimizer.learning_rate must be"),
        ("likelihood.noise = ['learned', 'input']", "likelihood.noise"),
        ("preparation.target = ['log', 'identity']", "preparation.target is one choice for a whole run"),
        ("network.activation = { low = 0, high = 1 }", "write a list of options"),
    ],
)
def test_a_space_that_does_not_suit_the_tree_is_refused(text: str, sentence: str) -> None:
    given_space, _ = parse_space(text)
    with pytest.raises(UserError, match=sentence):
        table_space(500, 8, classification=False, given=given_space)


def test_refining_keeps_the_rest_and_promotes_what_is_optional() -> None:
    tree = Space({"a": Number(0, 1), "b": Choice.of("x", "y")}, optional={"c": Number(0, 9, default=1)})
    found = refined(tree, Space({"c": Number(2, 3)}))
    assert found.nodes == {"a": Number(0, 1), "b": Choice.of("x", "y"), "c": Number(2, 3, below=math.inf)}
    assert found.optional == {}
