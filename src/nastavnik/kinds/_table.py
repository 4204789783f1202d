"""The table of kinds; of those that are equally sure of a column the first is taken."""

from nastavnik.kinds._array import Array
from nastavnik.kinds._boolean import Boolean
from nastavnik.kinds._category import Category
from nastavnik.kinds._constant import Constant
from nastavnik.kinds._date import Date
from nastavnik.kinds._duration import Duration
from nastavnik.kinds._identifier import Identifier
from nastavnik.kinds._image import Image
from nastavnik.kinds._kind import Kind
from nastavnik.kinds._labels import Labels
from nastavnik.kinds._number import Number
from nastavnik.kinds._text import Text

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Image(),
        Array(),
        Number(),
        Category(),
        Boolean(),
        Date(),
        Duration(),
        Labels(),
        Text(),
        Identifier(),
        Constant(),
    )
}
