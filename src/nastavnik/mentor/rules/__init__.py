"""The rules, one file a theme; each is a pure function of a history.

To add one: a function under ``@rule`` in the file of its theme, its place in that file's ``RULES``, a sick network with
its healthy twin in ``tests/mentor/``, and ``python -m nastavnik.mentor docs/rules`` for its page. A new theme is a file
and its place in the line below. Users add to ``RULES`` by assignment.
"""

from nastavnik.mentor._rule import Rule
from nastavnik.mentor.rules import (
    _activations,
    _batch,
    _cost,
    _curvature,
    _data,
    _examples,
    _generalization,
    _gradients,
    _loss,
    _network,
    _optimizer,
    _sequence,
    _steps,
    _targets,
    _weights,
    _wiring,
)

_THEMES = (
    _data,
    _targets,
    _batch,
    _network,
    _wiring,
    _sequence,
    _loss,
    _optimizer,
    _steps,
    _weights,
    _gradients,
    _activations,
    _curvature,
    _generalization,
    _examples,
    _cost,
)

RULES: dict[str, Rule] = {rule.name: rule for theme in _THEMES for rule in theme.RULES}
