"""Compiled code is loaded from where nobody else may write, whole, and never else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nastavnik.compiler import NotCompilable, Program, cache_folder, check_compiler
from nastavnik.compiler import _build as building

PLANTED = """
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void wake(void) { close(open("%s", O_CREAT | O_WRONLY, 0600)); }
int run(void) { return 0; }
"""


def doubled() -> torch.Tensor:
    """What a compiled step says; 2, 4, 6."""
    x, eye, out = torch.tensor([[[1.0, 2.0, 3.0]]]), torch.eye(3)[None], torch.zeros(1, 1, 3)
    program = Program(lambda t, m: [t @ m * 2], [x[0], eye[0]], [])
    program.run([(x, "k"), (eye, "k"), (out, "k")], torch.zeros(1, dtype=torch.long), steps=1, threads=1)
    return out[0]


@pytest.fixture(autouse=True)
def nothing_is_mapped_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_LOADED", {})


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache in which the step is kept already; the folder of steps."""
    monkeypatch.setenv("NASTAVNIK_CACHE", str(tmp_path / "cache"))
    assert doubled().tolist() == [[2.0, 4.0, 6.0]]
    building._LOADED.clear()
    return tmp_path / "cache" / "steps"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A library, and the file that it makes when anything loads it."""
    folder = tmp_path_factory.mktemp("planted")
    marker, text, library = folder / "loaded", folder / "evil.c", folder / "evil.so"
    text.write_text(PLANTED % marker)
    subprocess.run([str(building.compiler()), "-shared", "-fPIC", str(text), "-o", str(library)], check=True)
    script = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, str(library)], check=True)
    assert marker.exists()  # the plant works
    marker.unlink()
    return library, marker


def kept_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in (".so", ".o"))


def test_folders_and_files_are_ours_alone_whatever_the_umask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NASTAVNIK_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of" / "mine"))
    before = os.umask(0)
    try:
        doubled()
    finally:
        os.umask(before)
    steps = tmp_path / "of" / "mine" / "nastavnik" / "steps"
    for folder in (steps, *list(steps.parents)[:3]):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert len(kept_files(steps)) == len(list(steps.iterdir())) == 2
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in kept_files(steps))


def test_a_planted_library_is_never_loaded(cache: Path, planted: tuple[Path, Path]) -> None:
    library, marker = planted
    for place in kept_files(cache):
        place.write_bytes(library.read_bytes())
    assert doubled().tolist() == [[2.0, 4.0, 6.0]]
    assert not marker.exists()
    assert all(library.read_bytes() not in p.read_bytes() for p in kept_files(cache))  # built anew


def test_a_link_and_anothers_file_are_never_followed(
    cache: Path, planted: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    library, marker = planted
    (place,) = cache.glob("*.so")
    place.unlink()
    place.symlink_to(library)
    assert doubled().tolist() == [[2.0, 4.0, 6.0]]
    assert not marker.exists()
    assert not place.is_symlink()
    whole = place.read_bytes()
    assert building.kept(place, place.stem) is not None
    place.chmod(0o666)
    assert building.kept(place, place.stem) is None
    place.chmod(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    assert building.kept(place, place.stem) is None
    monkeypatch.undo()
    other = place.with_name("0" * 32 + ".so")  # a file of ours under the name of another step
    other.write_bytes(whole)
    assert building.kept(other, other.stem) is None
    other.unlink()
    os.mkfifo(other)
    assert building.kept(other, other.stem) is None


@pytest.mark.parametrize("kind", [".so", ".o"])
@pytest.mark.parametrize("damage", ["cut", "empty", "byte"])
def test_what_is_damaged_is_built_anew(cache: Path, kind: str, damage: str) -> None:
    """A cut library is a bus error, one with other bytes would compute something else."""
    (place,) = cache.glob(f"*{kind}")
    whole = place.read_bytes()
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 1
    place.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "byte": bytes(broken)}[damage])
    for library in cache.glob("*.so") if kind == ".o" else ():
        library.unlink()  # so that the object is linked again
    assert doubled().tolist() == [[2.0, 4.0, 6.0]]
    assert building.kept(place, place.stem) is not None


@pytest.mark.parametrize("value", ["", "cache", "./cache"])
def test_an_empty_or_relative_cache_home_counts_for_nothing(
    value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NASTAVNIK_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    doubled()
    assert cache_folder() == tmp_path / "home" / ".cache" / "nastavnik"
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("home", ["", "relative"])
def test_without_a_home_steps_live_as_long_as_the_process(
    home: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NASTAVNIK_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    monkeypatch.chdir(tmp_path)
    assert cache_folder() is None
    assert doubled().tolist() == [[2.0, 4.0, 6.0]]
    assert not list(tmp_path.iterdir())


def test_places_that_others_may_write_are_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    monkeypatch.setenv("NASTAVNIK_CACHE", str(open_to_all / "cache"))
    with pytest.raises(NotCompilable, match=r"others may write in .*open.*NASTAVNIK_CACHE"):
        doubled()
    monkeypatch.delenv("NASTAVNIK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(open_to_all))
    assert doubled().tolist() == [[2.0, 4.0, 6.0]]  # by a folder of this process
    assert not list(open_to_all.rglob("*.so"))
    open_to_all.chmod(0o1777)  # as /tmp is: nobody may take away what another has put there
    assert doubled().tolist() == [[2.0, 4.0, 6.0]]
    assert list(open_to_all.rglob("*.so"))


def test_a_folder_of_ours_that_was_open_is_closed_and_its_files_are_looked_at(
    cache: Path, planted: tuple[Path, Path]
) -> None:
    library, marker = planted
    cache.chmod(0o777)
    for place in kept_files(cache):
        place.write_bytes(library.read_bytes())
    assert doubled().tolist() == [[2.0, 4.0, 6.0]]
    assert cache.stat().st_mode & 0o777 == 0o700
    assert not marker.exists()


def test_anothers_folder_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    with pytest.raises(NotCompilable, match="belongs to another user"):
        doubled()


def test_a_compiler_is_asked_for_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NASTAVNIK_CACHE", str(tmp_path / "cache"))
    check_compiler()
    (tmp_path / "gcc").write_text("#!/bin/sh\necho no such machine >&2; exit 1\n")
    (tmp_path / "gcc").chmod(0o700)
    monkeypatch.setenv("CC", str(tmp_path / "gcc"))
    monkeypatch.setenv("NASTAVNIK_CACHE", str(tmp_path / "other"))
    with pytest.raises(NotCompilable, match=r"gcc refuses the step.*no such machine"):
        check_compiler()
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(NotCompilable, match="there is no C compiler"):
        check_compiler()


def test_what_a_killed_compiler_left_is_swept_away(cache: Path) -> None:
    left = cache / "room-abc"
    left.mkdir()
    os.utime(left, (0, 0))
    (place,) = cache.glob("*.so")
    place.unlink()
    doubled()
    assert not left.exists()
