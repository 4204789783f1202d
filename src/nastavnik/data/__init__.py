"""The data room: from a file, a frame or arrays to raw cells; from columns that were read to what a network takes in.

``read_source`` reads anything a user can name into a ``Table``; what its cells are is for ``kinds`` to say, which give
``Columns``. ``split_rows`` divides the rows; ``Preparation`` and ``TargetPreparation`` are fitted on training rows.
"""

from nastavnik.data._built_in import BUILT_IN as BUILT_IN
from nastavnik.data._cells import write_csv as write_csv
from nastavnik.data._columns import Bag as Bag
from nastavnik.data._columns import Columns as Columns
from nastavnik.data._columns import Field as Field
from nastavnik.data._columns import Lost as Lost
from nastavnik.data._frames import as_frame as as_frame
from nastavnik.data._frames import with_columns as with_columns
from nastavnik.data._held import FileCell as FileCell
from nastavnik.data._held import Held as Held
from nastavnik.data._held import MadeCell as MadeCell
from nastavnik.data._held import each_read as each_read
from nastavnik.data._preparation import Inputs as Inputs
from nastavnik.data._preparation import Preparation as Preparation
from nastavnik.data._split import PART_WORDS as PART_WORDS
from nastavnik.data._split import Split as Split
from nastavnik.data._split import split_rows as split_rows
from nastavnik.data._table import Table as Table
from nastavnik.data._table import plain_frame as plain_frame
from nastavnik.data._table import read_source as read_source
from nastavnik.data._table import row_keys as row_keys
from nastavnik.data._table import with_weights as with_weights
from nastavnik.data._target import SeveralPreparations as SeveralPreparations
from nastavnik.data._target import TargetPreparation as TargetPreparation
