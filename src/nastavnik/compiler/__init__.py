"""The compiler: the step of one network, traced by PyTorch, becomes one C function that trains it in the cache.

``_program`` traces and runs; ``_lowering`` and ``operations`` turn aten operations into ``_kernels`` over
``_expressions``; ``_printing`` writes them as C beside ``matrix.c``; ``_build`` compiles,
``_keeping`` keeps the result.
"""

from nastavnik.compiler._build import cache_folder as cache_folder
from nastavnik.compiler._build import check_compiler as check_compiler
from nastavnik.compiler._expressions import NotCompilable as NotCompilable
from nastavnik.compiler._program import Program as Program
from nastavnik.compiler._running import Ended as Ended
from nastavnik.compiler._tracing import peak_bytes as peak_bytes
from nastavnik.compiler._tracing import product_flops as product_flops
