"""Names, labels, texts and what is left out."""

import numpy as np
import pandas as pd
import pytest

from nastavnik.data import Preparation
from nastavnik.kinds import describe_columns, read_column, to_columns

N = 600
RNG = np.random.default_rng(0)
TAGS = np.array(["Luxury", "Hybrid", "Diesel", "Sport", "Factory Tuner"])
ON = RNG.random((N, 5)) < 0.4


@pytest.mark.parametrize("join", [",", ";", "|", ", ", " & "])
def test_labels_in_a_cell_are_there_or_not(join: str) -> None:
    frame = pd.DataFrame({"t": [join.join(TAGS[on]) for on in ON]})
    (info,) = describe_columns(frame)
    assert info.kind == "labels"
    bag = read_column(frame["t"], info).bags["t"]
    np.testing.assert_array_equal(bag.dense(TAGS.tolist()), ON)


def test_lists_and_their_written_form_are_labels() -> None:
    frame = pd.DataFrame({"t": [str(TAGS[on].tolist()) for on in ON]})
    (info,) = describe_columns(frame)
    assert info.kind == "labels"
    np.testing.assert_array_equal(read_column(frame["t"], info).bags["t"].dense(TAGS.tolist()), ON)


def test_names_of_any_number_are_one_category_and_rare_ones_share_a_place() -> None:
    names = np.array([f"{a}{b}ton" for a in "ABCDEFGHIJ" for b in "abcdefghijkl"])
    cells = [*RNG.choice(names, N), "Once", "Only"]
    frame = pd.DataFrame({"city": cells})
    (info,) = describe_columns(frame)
    assert info.kind == "category"
    columns = to_columns(frame, [info])
    prepared = Preparation.fit(columns, np.arange(len(cells)))
    inputs = prepared.apply(columns)
    assert inputs.categories[-1, 0] == inputs.categories[-2, 0] == 0
    assert inputs.categories[0, 0] > 0
    assert prepared.unseen(to_columns(pd.DataFrame({"city": ["Once", "Nowhere"]}), [info])) == {"city": 1}
    assert prepared.input_names == ["city: how common"]


def test_text_is_weighed_words_and_its_whole_where_it_comes_again() -> None:
    words = np.array([f"{a}{b}" for a in ("ka", "lo", "mi") for b in ("ban", "der", "fog", "gul", "hin", "jor", "kas")])
    said = [" ".join(RNG.choice(words, RNG.integers(5, 12))) for _ in range(N)]
    frame = pd.DataFrame({"review": said, "car": [f"{b} {m} {t}" for b, m, t in RNG.choice(words, (N, 3))]})
    frame["again"] = RNG.choice([f"the {w} of {v}" for w in words[:9] for v in words[:9]], N)
    infos = describe_columns(frame)
    assert [i.kind for i in infos] == ["text", "text", "text"]
    columns = to_columns(frame, infos)
    assert columns.word_names == ("again.whole",)
    prepared = Preparation.fit(columns, np.arange(400))
    numbers = prepared.apply(columns).numbers.numpy()
    (a, b), *_ = prepared.bag_ranges
    assert b - a == len(words)
    norms = np.linalg.norm(numbers[:, a:b], axis=1)
    np.testing.assert_allclose(norms, norms[0], rtol=1e-5)
    counts = np.array([[s.split().count(w) for w in sorted(words)] for s in said])
    rows_with = (counts[:400] > 0).mean(0)
    weight = np.log1p(counts) * np.log1p(1 / rows_with)
    np.testing.assert_allclose(
        numbers[:, a:b] / norms[0], weight / np.linalg.norm(weight, axis=1, keepdims=True), atol=1e-5
    )
    assert not Preparation.fit(columns, np.arange(400), text="none").bag_ranges


def test_what_tells_nothing_is_left_out_and_nothing_else() -> None:
    frame = pd.DataFrame(
        {
            "Unnamed: 0": np.arange(N),
            "unnamed 0": np.arange(N),
            "CustomerId": RNG.permutation(90_000)[:N],
            "same": "EU",
            "empty": [None] * N,
            "code": [f"{i:08x}{i * 7919:08x}" for i in range(N)],
            "step": np.arange(N),
            "order": [f"ORD-{2010 + i % 9}-{i:05d}" for i in range(N)],
            "mail": [f"user{i}@{RNG.choice(['a.com', 'b.org'])}" for i in range(N)],
            "cabin": [f"{RNG.choice(list('ABCDE'))}{i % 150}" for i in range(N)],
        }
    )
    kinds = {i.name: i.kind for i in describe_columns(frame)}
    out = {"Unnamed: 0", "unnamed 0", "CustomerId", "same", "empty", "code"}
    assert {n for n, k in kinds.items() if k in ("identifier", "constant")} == out
    assert kinds["step"] == "number"


def test_every_column_shows_what_was_read_of_it() -> None:
    frame = pd.DataFrame({"km": ["1.5 km", "20 km", "7 km"] * 9, "d": ["3/14/2015", "3/15/2015", "3/16/2015"] * 9})
    km, day = describe_columns(frame)
    assert km.examples == (("1.5 km", "1.5"), ("20 km", "20"), ("7 km", "7"))
    assert day.examples[0] == ("3/14/2015", "2015-03-14")
