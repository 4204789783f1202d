"""From C to a function: compiled once for each text and machine, and kept."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from nastavnik.compiler._expressions import NotCompilable
from nastavnik.compiler._running import run_unless

_MATRIX = Path(__file__).with_name("matrix.c")
_FLAGS = ("-O3", "-march=native", "-fopenmp-simd", "-fwrapv", "-fno-math-errno", "-fno-trapping-math", "-g0", "-w")


def cache_folder() -> Path:
    """Where compiled steps are kept: ``$NASTAVNIK_CACHE``, or ``nastavnik`` in the user's cache."""
    own = os.environ.get("NASTAVNIK_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "nastavnik"


def is_built(source: str, wide: bool) -> bool:
    """Whether ``build`` would find the library of this text among those kept."""
    matrix = _matrix_place(wide)[1]
    return matrix.exists() and _place(source + matrix.name, ".so").exists()


def build(source: str, wide: bool, ended: Callable[[], bool] = lambda: False) -> ctypes.CDLL:
    """The library of a text that is written with ``step.h``; ``wide`` for double precision.

    Raises:
        NotCompilable: there is no C compiler, or it refuses.
        Ended: ``ended`` before it was done.
    """
    matrix = build_matrix(wide, ended)
    place = _place(source + matrix.name, ".so")  # whose text is in its name
    if not place.exists():
        libraries = ["-lmvec", "-lm"] if _has_vector_math() else ["-lm"]
        _compile(source, place, ["-shared"], [str(matrix), *libraries], ended)
    try:
        return ctypes.CDLL(str(place))
    except OSError as error:
        raise NotCompilable(f"the compiled step cannot be loaded: {error}") from error


def build_matrix(wide: bool, ended: Callable[[], bool] = lambda: False) -> Path:
    """The product of matrices for one type of numbers, as an object to link with.

    Raises:
        NotCompilable: there is no C compiler, or it refuses.
        Ended: ``ended`` before it was done.
    """
    text, place = _matrix_place(wide)
    if not place.exists():
        _compile(text, place, ["-c"], [], ended)
    return place


def _matrix_place(wide: bool) -> tuple[str, Path]:
    kind, integer, size = ("double", "long", 8) if wide else ("float", "int", 4)
    text = f"typedef {kind} T;\ntypedef {integer} TI;\n#define TB {size}\n{_MATRIX.read_text(encoding='utf-8')}"
    return text, _place(text, ".o")


def compiler() -> str | None:
    """The C compiler: ``$CC``, or gcc, or cc."""
    return next((found for name in (os.environ.get("CC"), "gcc", "cc") if name and (found := shutil.which(name))), None)


def _compile(source: str, place: Path, how: list[str], libraries: list[str], ended: Callable[[], bool]) -> None:
    tool = compiler()
    if tool is None:
        raise NotCompilable("there is no C compiler (gcc) on this machine")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        room = tempfile.mkdtemp(dir=place.parent)
    except OSError as error:
        raise NotCompilable(f"{place.parent} cannot be written ({error.strerror})") from error
    try:
        text, made = Path(room, "step.c"), Path(room, "made")
        text.write_text(source, encoding="utf-8")
        vectors = ["-DVECTOR_MATH"] if _has_vector_math() else []
        command = [tool, *_FLAGS, *vectors, *how, "-fPIC", str(text), "-o", str(made), *libraries]
        code, said = run_unless(ended, command)
        if code:
            raise NotCompilable(f"{Path(tool).name} refuses the step: {said.strip().splitlines()[:1]}")
        os.replace(made, place)
    except OSError as error:
        raise NotCompilable(f"the step cannot be compiled in {room}: {error.strerror}") from error
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _place(source: str, suffix: str) -> Path:
    key = hashlib.sha256("\n".join([source, *_FLAGS, _machine()]).encode()).hexdigest()[:32]
    return cache_folder() / "steps" / f"{key}{suffix}"


@functools.cache
def _machine() -> str:
    """What the compiled code depends on beside its text: the processor's abilities and the compiler."""
    flags = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    tool = compiler()
    version = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False).stdout if tool else ""
    return "\n".join([platform.machine(), platform.system(), flags, version])


def _has_vector_math() -> bool:
    """Whether C's mathematics comes in a form for vectors (the GNU C library's libmvec)."""
    name, version = platform.libc_ver()
    recent = name == "glibc" and tuple(int(n) for n in version.split(".")[:2]) >= (2, 35)
    return recent and sys.platform == "linux" and platform.machine() == "x86_64"
