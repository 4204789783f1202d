"""From C to a function: compiled once for each text and machine, and kept where nobody else may write.

What is kept is a file of ours: the hash of its name and content, then the content. It is read once, held against its
hash, and what was read is what is loaded or linked, from a folder that nobody else can open.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nastavnik.compiler._expressions import NotCompilable
from nastavnik.compiler._keeping import Unsafe, fresh_folder, keep, kept, private_folder, room_of_process, sweep
from nastavnik.compiler._running import Ended, run_unless

_MATRIX = Path(__file__).with_name("matrix.c")
_FLAGS = ("-O3", "-march=native", "-fopenmp-simd", "-fwrapv", "-fno-math-errno", "-fno-trapping-math", "-g0", "-w")
_TRIED = 5.0  # seconds at most
_LOADED: dict[str, ctypes.CDLL] = {}  # by the hash of their bytes: a library is mapped once


def cache_folder() -> Path | None:
    """Where compiled steps are kept: ``$NASTAVNIK_CACHE``, or ``nastavnik`` in the user's cache; None without a home.

    An empty or relative ``$XDG_CACHE_HOME`` counts for nothing (XDG Base Directory Specification, 0.8).
    """
    own = os.environ.get("NASTAVNIK_CACHE")
    if own:
        return Path(own).absolute()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(shared):
        return Path(shared) / "nastavnik"
    home = os.environ.get("HOME")
    if home is not None and not os.path.isabs(home):
        return None
    try:
        return Path.home() / ".cache" / "nastavnik"
    except RuntimeError:  # nobody knows of a home
        return None


def _never() -> bool:
    return False


def is_built(source: str, wide: bool) -> bool:
    """Whether ``build`` would find the library of this text among those kept."""
    try:
        key = _key(source + _matrix_text(wide))
        return kept(_folder() / f"{key}.so", key) is not None
    except NotCompilable:  # which ``build`` says
        return False


def build(source: str, wide: bool, ended: Callable[[], bool] = _never) -> ctypes.CDLL:
    """The library of a text that is written with ``step.h``; ``wide`` for double precision.

    Raises:
        NotCompilable: there is no C compiler, or it refuses, or there is no place to keep what it makes.
        Ended: ``ended`` before it was done.
    """
    folder = _folder()
    key = _key(source + _matrix_text(wide))
    content = kept(folder / f"{key}.so", key)
    if content is None:
        libraries = ["-lmvec", "-lm"] if _has_vector_math() else ["-lm"]
        content = _compiled(folder, source, ["-shared"], _matrix(folder, wide, ended), libraries, ended)
        keep(folder / f"{key}.so", key, content)
    return _loaded(folder, content)


def check_compiler() -> None:
    """Try the compiler on the product of matrices, which every step is linked with; but not for long.

    Raises:
        NotCompilable: there is none, or it refuses, or there is no place to keep what it makes.
    """
    over = time.monotonic() + _TRIED
    with suppress(Ended):  # slow is no fault: whether there is time for it is asked when it is needed
        _matrix(_folder(), wide=False, ended=lambda: time.monotonic() > over)


def compiler() -> str | None:
    """The C compiler: ``$CC``, or gcc, or cc."""
    return next((found for name in (os.environ.get("CC"), "gcc", "cc") if name and (found := shutil.which(name))), None)


def _folder() -> Path:
    """Where steps are kept; the process's own folder where the user's cache does not serve."""
    cache = cache_folder()
    try:
        if cache is not None:
            return private_folder(cache / "steps")
    except OSError as error:
        if os.environ.get("NASTAVNIK_CACHE"):
            why = error if isinstance(error, Unsafe) else f"it cannot be written: {error.strerror}"
            raise NotCompilable(f"compiled steps cannot be kept in {cache} ({why}); set NASTAVNIK_CACHE") from error
    try:
        return room_of_process(os.getpid())
    except OSError as error:
        raise NotCompilable(f"there is no place for compiled steps ({error}); set NASTAVNIK_CACHE") from error


def _matrix_text(wide: bool) -> str:
    """The product of matrices for one type of numbers."""
    kind, integer, size = ("double", "long", 8) if wide else ("float", "int", 4)
    return f"typedef {kind} T;\ntypedef {integer} TI;\n#define TB {size}\n{_MATRIX.read_text(encoding='utf-8')}"


def _matrix(folder: Path, wide: bool, ended: Callable[[], bool] = _never) -> bytes:
    """It, as an object to link with."""
    text = _matrix_text(wide)
    key = _key(text)
    content = kept(folder / f"{key}.o", key)
    if content is None:
        content = _compiled(folder, text, ["-c"], None, [], ended)
        keep(folder / f"{key}.o", key, content)
    return content


def _compiled(
    folder: Path,
    source: str,
    how: list[str],
    linked: bytes | None,
    libraries: list[str],
    ended: Callable[[], bool],
) -> bytes:
    """What the compiler makes of a text, with an object linked to it."""
    tool = compiler()
    if tool is None:
        raise NotCompilable("there is no C compiler (gcc) on this machine")
    try:
        sweep(folder)
        with fresh_folder(folder) as room:
            text, made, matrix = room / "step.c", room / "made", room / "matrix.o"
            text.write_text(source, encoding="utf-8")
            if linked is not None:
                matrix.write_bytes(linked)
                libraries = [str(matrix), *libraries]
            vectors = ["-DVECTOR_MATH"] if _has_vector_math() else []
            command = [tool, *_FLAGS, *vectors, *how, "-fPIC", str(text), "-o", str(made), *libraries]
            code, said = run_unless(ended, command)
            if code:
                raise NotCompilable(f"{Path(tool).name} refuses the step: {said.strip().splitlines()[:1]}")
            return made.read_bytes()
    except OSError as error:
        raise NotCompilable(f"the step cannot be compiled in {folder}: {error.strerror or error}") from error


def _loaded(folder: Path, content: bytes) -> ctypes.CDLL:
    """The library of these very bytes: written where nobody else can look, mapped, and taken away again."""
    digest = hashlib.sha256(content).hexdigest()
    if digest not in _LOADED:
        try:
            _LOADED[digest] = _mapped(folder, content)
        except OSError:  # a cache may lie on a disk that nothing may run from
            try:
                _LOADED[digest] = _mapped(room_of_process(os.getpid()), content)
            except OSError as error:
                raise NotCompilable(f"the compiled step cannot be loaded: {error}") from error
    return _LOADED[digest]


def _mapped(folder: Path, content: bytes) -> ctypes.CDLL:
    with fresh_folder(folder) as room:
        (room / "step.so").write_bytes(content)
        return ctypes.CDLL(str(room / "step.so"))


def _key(source: str) -> str:
    return hashlib.sha256("\n".join([source, *_FLAGS, _machine()]).encode()).hexdigest()[:32]


@functools.cache
def _machine() -> str:
    """What the compiled code depends on beside its text: the processor's abilities and the compiler."""
    flags = ""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:  # another system's, where the compiler's words must do
        pass
    tool = compiler()
    if tool is None:
        raise NotCompilable("there is no C compiler (gcc) on this machine")
    try:
        version = subprocess.run([tool, "--version"], capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise NotCompilable(f"the C compiler {tool} cannot be run: {error.strerror}") from error
    return "\n".join([platform.machine(), platform.system(), flags, version.stdout])


def _has_vector_math() -> bool:
    """Whether C's mathematics comes in a form for vectors (the GNU C library's libmvec)."""
    name, version = platform.libc_ver()
    recent = name == "glibc" and tuple(int(n) for n in version.split(".")[:2]) >= (2, 35)
    return recent and sys.platform == "linux" and platform.machine() == "x86_64"
