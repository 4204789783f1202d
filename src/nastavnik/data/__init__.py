"""The data room: from a file, a frame or arrays to typed columns, splits and what a network takes in.

``read_source`` reads anything a user can name into a ``Table``; ``describe_columns`` finds each column's kind;
``to_columns`` turns raw values into numbers and words; ``audit`` says in plain words what is odd about them;
``split_rows`` divides the rows; ``Preparation`` and ``TargetPreparation`` are fitted on training rows only.
"""

from nastavnik.data._audit import audit as audit
from nastavnik.data._built_in import BUILT_IN as BUILT_IN
from nastavnik.data._cells import write_csv as write_csv
from nastavnik.data._columns import Columns as Columns
from nastavnik.data._columns import Lost as Lost
from nastavnik.data._columns import to_columns as to_columns
from nastavnik.data._columns import to_numbers as to_numbers
from nastavnik.data._columns import to_words as to_words
from nastavnik.data._kinds import KINDS as KINDS
from nastavnik.data._kinds import ColumnInfo as ColumnInfo
from nastavnik.data._kinds import describe_columns as describe_columns
from nastavnik.data._kinds import is_missing as is_missing
from nastavnik.data._preparation import Inputs as Inputs
from nastavnik.data._preparation import Preparation as Preparation
from nastavnik.data._split import Split as Split
from nastavnik.data._split import split_rows as split_rows
from nastavnik.data._table import Table as Table
from nastavnik.data._table import plain_frame as plain_frame
from nastavnik.data._table import read_source as read_source
from nastavnik.data._target import TargetPreparation as TargetPreparation
