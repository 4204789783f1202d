"""What each aten operation of a step is in loops, reductions and products.

To add one: a function under ``@lowers("name")`` in the file it belongs to, which gets the translation, the result's
type and the operation's own arguments; for an operation on single elements, a line in ``_ELEMENTWISE``.
"""

from nastavnik.compiler._lowering import LOWERINGS as LOWERINGS
from nastavnik.compiler.operations import _elementwise as _elementwise
from nastavnik.compiler.operations import _indexing as _indexing
from nastavnik.compiler.operations import _normalization as _normalization
from nastavnik.compiler.operations import _reductions as _reductions
from nastavnik.compiler.operations import _shapes as _shapes
