"""Spaces: trees of choices that recipes are drawn from; how many points they hold, how they are written and narrowed.

``Number`` and ``Choice`` are what a tree is made of, ``Space`` is the tree; ``read_space`` reads one from TOML,
``refined`` puts one in place of what another tree has under the same names.
"""

from nastavnik.space._ranges import around as around
from nastavnik.space._ranges import is_share as is_share
from nastavnik.space._refining import refined as refined
from nastavnik.space._space import Choice as Choice
from nastavnik.space._space import Node as Node
from nastavnik.space._space import Number as Number
from nastavnik.space._space import Space as Space
from nastavnik.space._space import default_of as default_of
from nastavnik.space._toml import Limits as Limits
from nastavnik.space._toml import parse_space as parse_space
from nastavnik.space._toml import read_space as read_space
from nastavnik.space._toml import read_space_text as read_space_text
from nastavnik.space._toml import space_in_toml as space_in_toml
from nastavnik.space._tree import POINTS as POINTS
from nastavnik.space._tree import decode as decode
from nastavnik.space._tree import flat_size as flat_size
from nastavnik.space._tree import in_digits as in_digits
from nastavnik.space._tree import is_finite as is_finite
from nastavnik.space._tree import nodes_by_key as nodes_by_key
from nastavnik.space._tree import size as size
from nastavnik.space._tree import tree_in_words as tree_in_words
