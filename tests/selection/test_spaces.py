"""Spaces: the numbers' axes, how much a tree holds, TOML, refinement."""

import itertools
import math
from pathlib import Path
from typing import Any

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
    space_in_toml,
    tree_in_words,
)
from nastavnik.targets import Classification, Regression

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
        ("a = { low = 0, high = 1, default = 3 }", "a: the default 3 is no value from 0 to 1"),
        ("a = { low = 0, high = 1, default = nan }", "a: the default nan is no value"),
        ("a = { low = 0, high = 1, step = 0.25, default = 0.3 }", "a: the default 0.3 is no value"),
        ("a = { low = 0, high = 1, step = 5 }", "a step must fit into the range"),
        ("a = { low = 0, high = 1, step = 1e-300 }", "a step must fit into the range"),
        ("a = { low = 0, high = 1e300 }", "a range must lie within"),
        (f"a = {{ low = 0, high = 1{'0' * 400} }}", "a range must lie within"),
        (f"a = {'9' * 5001}", "cannot be read"),
        (f"a = {'[' * 3000}", "cannot be read"),
        ("a = [1, 1.0]", "a names an option twice"),
        ("a = [true, 1]", "a names an option twice"),
        ("a = [1, '1']", "a names an option twice"),
        ("a = [nan]", "an option must be a number"),
        ("a.b = 1\n'a.b' = 2", "a.b is written twice"),
        ("a = { options = [1, 2], default = true }", "the default True is none of its options"),
        ("a = { options = ['x'], default = [1] }", "the default .* is none of its options"),
        ("[limits]\nparameters = [1]", "the limit parameters must be a number above 0"),
        (f"[limits]\nparameters = 1{'0' * 400}", "the limit parameters must be a number above 0"),
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
    space = table_space(500, 8, target=Classification("y", ("a", "b")), given=given_space)
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
        ("network.activation = { low = 0, high = 1 }", "write a list of options"),
        (
            "network.width = { low = -4, high = 4 }",
            "network.width: it must be a whole number from 1 to 1,000,000, but got -4 to 4",
        ),
        ("network.width = { low = 1.5, high = 4 }", "network.width: a whole number needs whole ends and steps"),
        ("schedule.gamma = { low = 0.1, high = 0.2 }", "schedule.gamma would have no effect"),
    ],
)
def test_a_space_that_does_not_suit_the_tree_is_refused(text: str, sentence: str) -> None:
    given_space, _ = parse_space(text)
    with pytest.raises(UserError, match=sentence):
        table_space(500, 8, target=Regression("y"), given=given_space)


def test_refining_keeps_the_rest_and_promotes_what_is_optional() -> None:
    tree = Space({"a": Number(0, 1), "b": Choice.of("x", "y")}, optional={"c": Number(0, 9, default=1)})
    found = refined(tree, Space({"c": Number(2, 3)}))
    assert found.nodes == {"a": Number(0, 1), "b": Choice.of("x", "y"), "c": Number(2, 3, below=math.inf)}
    assert found.optional == {}


def test_a_space_speaks_of_what_lies_below_a_pinned_choice() -> None:
    asked, _ = parse_space("optimizer.learning_rate = { low = 0.01, high = 0.02 }")
    for given_space, pinned in ((asked, {"optimizer.name": "sgd"}), (parse_space("optimizer.name = 'sgd'")[0], {})):
        both = Space({**asked.nodes, **given_space.nodes}, given_space.fixed)
        tree = table_space(500, 8, target=Classification("y", ("a", "b")), given=both, pinned=pinned)
        for branch in tree.nodes["network.family"].branches.values():  # type: ignore[union-attr]
            rate = branch.nodes["optimizer.learning_rate"]
            assert isinstance(rate, Number)
            assert (rate.low, rate.high) == (0.01, 0.02)
    own, _ = parse_space(
        "[network.family]\noptions = ['mlp', 'linear']\n[network.family.when.linear]\noptimizer.learning_rate = 0.03"
    )
    tree = table_space(500, 8, target=Classification("y", ("a", "b")), given=own, pinned={"optimizer.name": "sgd"})
    assert tree.nodes["network.family"].branches["linear"].fixed["optimizer.learning_rate"] == 0.03  # type: ignore[union-attr]


def test_whole_choices_take_other_whole_numbers_and_ranges_on_the_command_line() -> None:
    tree = Space({"network.width": Choice.of(32, 64)})
    assert tree.pin({"network.width": "8,32"}).nodes["network.width"].options == (8, 32)  # type: ignore[union-attr]
    assert tree.pin({"network.width": "4..8"}).nodes["network.width"] == Number(4, 8, log=True, integer=True, least=1)


def test_the_default_of_a_stepped_number_is_on_its_steps() -> None:
    space = Space({"a": Number(0.0, 0.5, step=0.1), "b": Number(8, 32, step=8, integer=True)})
    assert space.default() == {"a": pytest.approx(0.3), "b": 24}
    with pytest.raises(UserError, match="the default 'z' is none of the options"):
        Choice.of("x", "y", default="z")


words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)
leaves = st.one_of(
    numbers(),
    st.lists(st.one_of(words, st.integers(-5, 5)), min_size=1, max_size=3, unique_by=str).map(lambda v: Choice.of(*v)),
)
names = st.text("abc.-é😀\"' ", min_size=1, max_size=4).filter(lambda n: n != "limits")


def _choice(branches: Any) -> Choice:
    return Choice(branches)


def branching(below: st.SearchStrategy[Space]) -> st.SearchStrategy[Space]:
    choices = st.dictionaries(words, below, min_size=1, max_size=2).map(_choice)
    return st.dictionaries(names, st.one_of(leaves, choices), max_size=3).map(Space)


trees = st.recursive(st.dictionaries(names, leaves, max_size=2).map(Space), branching, max_leaves=4)


@given(trees)
@settings(max_examples=80, deadline=None)
def test_a_space_survives_its_toml(space: Space) -> None:
    space = Space(space.nodes, {"given": 1.5, "word": "a\tb\x7f"})
    found, limits = parse_space(space_in_toml(space, Limits(seconds=3.5)))
    assert found == space
    assert limits == Limits(seconds=3.5)


def test_large_trees_are_drawn_in_words() -> None:
    assert "about 10^349" in tree_in_words(Space({f"a{i}": Number(0, 1) for i in range(500)}))
    with pytest.raises(UserError, match="a space cannot hold inf"):
        space_in_toml(Space(fixed={"a": math.inf}))


def test_below_a_pinned_value_a_space_still_speaks() -> None:
    own, _ = parse_space(
        "[network.family]\noptions = ['mlp', 'linear']\n[network.family.when.mlp]\nnetwork.width = [5, 7]"
    )
    tree = table_space(500, 8, target=Classification("y", ("a", "b")), given=own, pinned={"network.family": "mlp"})
    width = tree.nodes["network.width"]
    assert isinstance(width, Choice)
    assert width.options == (5, 7)
