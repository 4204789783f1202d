"""First layers for pictures, texts and arrays: what they compute, held against torch and plain sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nastavnik.errors import UserError
from nastavnik.fields import Entry
from nastavnik.nets import FAMILIES, Factory, Signature
from nastavnik.nets._encoders import Convolutions, Flat, WordMean
from nastavnik.nets._standard import Standard
from nastavnik.recipe import Value
from nastavnik.space import default_of

PHOTO = Entry("photo", "picture", (8, 6, 3))
WORDS = Entry("note", "tokens", (5,), 9)
GRID = Entry("grid", "array", (2, 3))


def examples(n: int = 12) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    return (
        torch.randn(n, 2, generator=g),
        torch.randint(0, 3, (n, 1), generator=g),
        torch.randint(0, 256, (n, 8, 6, 3), generator=g, dtype=torch.uint8),
        torch.randint(0, 9, (n, 5), generator=g, dtype=torch.int32),
        torch.randn(n, 2, 3, generator=g),
    )


def signature() -> Signature:
    return Signature(2, (3,), 4, (12, 12), examples(), (), (PHOTO, WORDS, GRID))


def settings(name: str) -> dict[str, Value]:
    space = FAMILIES[name].space(500, 2, ("picture", "tokens", "array"))
    return {key.removeprefix("network."): v for key, v in space.default().items() if key.startswith("network.")}


def test_standard_pixels_have_mean_0_and_deviation_1_by_channel() -> None:
    x = examples()[2]
    z = Standard(PHOTO, x)(x)
    assert z.shape == (12, 3, 8, 6)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3), unbiased=False), torch.ones(3), atol=1e-5, rtol=0)
    plain = (x.permute(0, 3, 1, 2).double() - x.double().mean((0, 1, 2))[:, None, None]) / x.double().std(
        (0, 1, 2), unbiased=False
    )[:, None, None]
    torch.testing.assert_close(z.double(), plain, atol=1e-4, rtol=0)


def test_large_pictures_enter_by_the_means_of_squares() -> None:
    entry = Entry("photo", "picture", (70, 40, 1))
    x = torch.randint(0, 256, (3, 70, 40, 1), dtype=torch.uint8)
    flat = Flat(entry, x)
    assert flat.squares == 3
    assert flat(x).shape == (3, flat.features)
    z = flat.standard(x)
    torch.testing.assert_close(flat(x)[:, 0], z[:, 0, :3, :3].mean((1, 2)))


def test_the_mean_of_words_leaves_out_what_fills_up_and_what_is_unknown() -> None:
    layer = WordMean(WORDS, {"vector": 3, "pairs": False, "word_dropout": 0.0}).eval()
    tokens = torch.tensor([[2, 3, 0, 0, 0], [1, 1, 0, 0, 0], [4, 4, 1, 5, 0]], dtype=torch.int32)
    w = layer.words.weight
    torch.testing.assert_close(layer(tokens)[0], (w[2] + w[3]) / 2)
    torch.testing.assert_close(layer(tokens)[1], torch.zeros(3))
    torch.testing.assert_close(layer(tokens)[2], (2 * w[4] + w[5]) / 3)


def test_pairs_of_words_tell_their_order() -> None:
    layer = WordMean(WORDS, {"vector": 3, "pairs": True, "word_dropout": 0.0}).eval()
    one, other = torch.tensor([[2, 3, 0, 0, 0]], dtype=torch.int32), torch.tensor([[3, 2, 0, 0, 0]], dtype=torch.int32)
    assert not torch.allclose(layer(one), layer(other))
    plain = WordMean(WORDS, {"vector": 3, "pairs": False, "word_dropout": 0.0}).eval()
    torch.testing.assert_close(plain(one), plain(other))


def test_convolutions_are_torchs() -> None:
    own: dict[str, Value] = {"channels": 4, "stages": 2, "double": False, "activation": "relu", "map_dropout": 0}
    own["normalization"] = "none"
    layer = Convolutions(PHOTO, own, examples()[2]).eval()
    x = examples()[2]
    z = layer.standard(x)
    for stage in layer.stages:
        assert isinstance(stage, nn.Sequential)
        first = stage[0]
        assert isinstance(first, nn.Conv2d)
        z = torch.relu(nn.functional.conv2d(z, first.weight, first.bias, padding=1))
        z = torch.max_pool2d(z, 2) if min(z.shape[2:]) >= 4 else z  # a map of three is not halved
    torch.testing.assert_close(layer(x), z.mean((2, 3)))
    assert layer.features == 8
    assert layer.further_products == 9 * 3 * 4 * (48 - 1) + 9 * 4 * 8 * (12 - 1)


@pytest.mark.parametrize("normalization", ["weight", "rms"])
def test_a_normalization_without_maps_is_refused(normalization: str) -> None:
    own: dict[str, Value] = {"channels": 4, "stages": 2, "double": False, "activation": "relu", "map_dropout": 0}
    with pytest.raises(UserError, match=rf"network\.normalization cannot be '{normalization}' after convolutions"):
        Convolutions(PHOTO, {**own, "normalization": normalization}, None)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_takes_all_fields(name: str) -> None:
    torch.manual_seed(0)
    network = FAMILIES[name].build(settings(name), signature())
    out = network(*examples())
    assert out.shape == (12, 4 * getattr(network, "members", 1))
    again = FAMILIES[name].build(settings(name), Signature(2, (3,), 4, (12, 12), None, (), (PHOTO, WORDS, GRID)))
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again.eval()(*examples()), network.eval()(*examples()))


@pytest.mark.parametrize("name", ["linear", "bag", "cnn", "mlp"])
def test_counted_words_of_titles_are_read_beside_a_texts_tokens(name: str) -> None:
    """Two texts: of one there are tokens as well, of the other only counted words."""
    g = torch.Generator().manual_seed(0)
    numbers = torch.randn(12, 1 + 4 + 3, generator=g)
    note = Entry("note", "tokens", (5,), 9, (1, 5))
    given = (numbers, torch.zeros(12, 0, dtype=torch.long), examples()[2], examples()[3])
    own = Signature(8, (), 4, (12,) * 8, given, ((1, 5), (5, 8)), (PHOTO, note))
    torch.manual_seed(0)
    network = FAMILIES[name].build(settings(name), own).eval()
    for p in network.parameters():
        nn.init.normal_(p, std=0.1)

    def changed(columns: slice) -> bool:
        other = numbers.clone()
        other[:, columns] += 1
        return not torch.allclose(network(*given), network(other, *given[1:]))

    assert changed(slice(5, 8))
    assert changed(slice(1, 5)) == (name == "mlp")


def test_a_factory_gets_inputs_by_name() -> None:
    seen: dict[str, torch.Tensor] = {}

    class Reader(nn.Module):
        def __init__(self, shapes: dict, outputs: int) -> None:
            super().__init__()
            self.line = nn.Linear(shapes["numbers"], outputs)

        def forward(self, numbers, photo, note, grid):  # type: ignore[no-untyped-def]
            seen.update(photo=photo, note=note, grid=grid)
            return self.line(numbers)

    network = Factory(Reader).build({}, signature())
    network(*examples())
    assert seen["photo"].shape == (12, 3, 8, 6)
    assert seen["photo"].dtype == torch.float32
    torch.testing.assert_close(seen["note"], examples()[3].long())
    assert abs(float(seen["grid"].mean())) < 1e-5


def test_a_factory_of_one_picture_is_told_its_shape() -> None:
    told = []

    def make(shape: tuple[int, ...], outputs: int) -> nn.Module:
        told.append(shape)
        return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), outputs))

    photo = examples()[2]
    empty = torch.zeros(12, 0), torch.zeros(12, 0, dtype=torch.long)
    network = Factory(make).build({}, Signature(0, (), 4, (), (*empty, photo), (), (PHOTO,)))
    assert told == [(3, 8, 6)]
    assert network(*empty, photo).shape == (12, 4)


def test_defaults_of_the_new_families_are_in_their_spaces() -> None:
    for name in ("cnn", "bag"):
        for node in FAMILIES[name].space(500, 0, ("picture", "tokens")).nodes.values():
            assert default_of(node) is not None
