"""Kinds of columns: what a cell is, one file a kind, and its line in ``_table``.

``describe_columns`` asks every kind how sure it is of each column; ``to_columns`` reads cells by the kind and the
reading that were stored; ``audit`` says in plain words what is odd.
"""

from nastavnik.kinds._audit import audit as audit
from nastavnik.kinds._audit import copies_across as copies_across
from nastavnik.kinds._audit import keys_of as keys_of
from nastavnik.kinds._cells import Cells as Cells
from nastavnik.kinds._cells import is_missing as is_missing
from nastavnik.kinds._cells import level_word as level_word
from nastavnik.kinds._describing import describe_columns as describe_columns
from nastavnik.kinds._describing import read_column as read_column
from nastavnik.kinds._describing import to_columns as to_columns
from nastavnik.kinds._describing import told_missing as told_missing
from nastavnik.kinds._kind import ColumnInfo as ColumnInfo
from nastavnik.kinds._kind import Features as Features
from nastavnik.kinds._kind import Guess as Guess
from nastavnik.kinds._kind import Kind as Kind
from nastavnik.kinds._kind import Wishes as Wishes
from nastavnik.kinds._table import KINDS as KINDS
