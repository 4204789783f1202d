"""Probes: questions put to a copy of a network and its loss, on the user's own batch, with an exact answer.

No curve betrays that rows are mixed or that a step sees the next one; asking does. A probe is a function of ``Asked``
(the network as it stands, its loss, a batch) that gives what it found by name: numbers go into the history as
measurements, anything else as facts; ``{}`` where the question does not apply. Rules read both like any instrument's.

To add one: a function with its question as docstring, its place in ``PROBES``, a sick network whose answer is known
exactly with its healthy twin in ``tests/mentor/test_questions.py``, and a rule that reads it.
"""

from collections.abc import Callable
from typing import Any

from nastavnik.mentor.probes._asked import Asked as Asked
from nastavnik.mentor.probes._learning import eight_rows as eight_rows
from nastavnik.mentor.probes._learning import trees_on_the_same_rows as trees_on_the_same_rows
from nastavnik.mentor.probes._loss import expects as expects
from nastavnik.mentor.probes._loss import loss_facts as loss_facts
from nastavnik.mentor.probes._loss import scored_as as scored_as
from nastavnik.mentor.probes._modules import unheld_layers
from nastavnik.mentor.probes._operations import FirstUndefined as FirstUndefined
from nastavnik.mentor.probes._operations import terms_of as terms_of
from nastavnik.mentor.probes._outputs import each_output, reach, rows_told_apart, undefined_loss
from nastavnik.mentor.probes._rows import batch_statistics, mixed_rows, modules_left, repeated
from nastavnik.mentor.probes._sequence import early_steps_heard, future_seen, order_heard, padding_heard
from nastavnik.mentor.probes._targets import silent_classes as silent_classes
from nastavnik.mentor.probes._targets import target_among_inputs

PROBES: dict[str, Callable[[Asked], dict[str, Any]]] = {
    probe.__name__: probe
    for probe in (
        mixed_rows,
        repeated,
        batch_statistics,
        modules_left,
        future_seen,
        order_heard,
        early_steps_heard,
        padding_heard,
        target_among_inputs,
        silent_classes,
        reach,
        each_output,
        undefined_loss,
        rows_told_apart,
        unheld_layers,
    )
}
