"""Activations: what a unit says of its weighted sum, each a module for ONE network.

Each class holds one function in the same order: what it says of itself, its facts, its numbers, ``forward``. Numbers
are buffers, one value a network; a learned slope is a parameter.
"""

from collections.abc import Mapping

from nastavnik.errors import UserError, nearest
from nastavnik.nets.activations._base import Activation as Activation
from nastavnik.nets.activations._base import activation_nodes as activation_nodes
from nastavnik.nets.activations._base import is_activation as is_activation
from nastavnik.nets.activations._blend import Blend
from nastavnik.nets.activations._rectifiers import Elu, LeakyRelu, Maxout, PRelu, Relu, Selu
from nastavnik.nets.activations._saturating import Arctan, HardSigmoid, ScaledTanh, Sigmoid, Softsign, Step, Tanh
from nastavnik.nets.activations._smooth import Gelu, Identity, Mish, Silu, Sin, Softplus, TanhLinear
from nastavnik.recipe import Value
from nastavnik.space import Choice

ACTIVATIONS: dict[str, type[Activation]] = {
    activation.name: activation
    for activation in (
        Relu,
        Silu,
        Gelu,
        Tanh,
        LeakyRelu,
        PRelu,
        Elu,
        Selu,
        Mish,
        Softplus,
        Sigmoid,
        HardSigmoid,
        ScaledTanh,
        TanhLinear,
        Softsign,
        Arctan,
        Maxout,
        Sin,
        Identity,
        Step,
        Blend,
    )
}
_blended = tuple(name for name, kind in ACTIVATIONS.items() if kind is not Blend and kind().expansion == 1)
Blend.choices = {
    end: (default[0], *(name for name in _blended if name != default[0])) for end, default in Blend.choices.items()
}


def make_activation(settings: Mapping[str, Value]) -> Activation:
    """The activation that a recipe's network section names, with its numbers.

    Raises:
        UserError: there is none of that name.
    """
    name = str(settings["activation"])
    if name not in ACTIVATIONS:
        raise UserError(f"network.activation cannot be {name!r}{nearest(name, ACTIVATIONS)}")
    kind = ACTIVATIONS[name]
    if kind is not Blend:
        return kind(settings)
    ends = [{**settings, "activation": str(settings.get(key, kind.choices[key][0]))} for key in kind.choices]
    for end in ends:
        if end["activation"] not in Blend.choices["blend_to"]:
            raise UserError(f"network.blend_from and network.blend_to cannot be {end['activation']!r}")
    return Blend(settings, (make_activation(ends[0]), make_activation(ends[1])))


def activation_choice(default: str, searched: tuple[str, ...]) -> Choice:
    """The node ``network.activation`` of a family's space: a search draws from ``searched``."""
    return Choice({name: activation_nodes(kind) for name, kind in ACTIVATIONS.items()}, default, searched)


__all__ = ["ACTIVATIONS", "Activation", "activation_choice", "is_activation", "make_activation"]
