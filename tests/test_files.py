"""Files are written whole, together where they belong together, through nobody's links; leftovers are cleared."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nastavnik.errors import UserError
from nastavnik.files import (
    COMMIT,
    RUN_FILES,
    file_hash,
    read_bytes,
    read_json,
    remove_run,
    settle,
    temporary_name,
    together,
    write_atomically,
    write_json,
    write_text,
)
from nastavnik.files.records import SEAL, Kind, listing, maybe, number, one_of, record, row, text, whole
from nastavnik.runs import RunFolder, next_free

FORKED = multiprocessing.get_context("fork")


def killed_at(nth: int, job: Callable[[], object]) -> bool:
    """Do a job in another process that is killed before its n-th renaming; whether it was."""

    def main() -> None:
        count = 0

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def rename(*places: Any) -> None:
                nonlocal count
                if count == nth:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1
                real(*places)

            return rename

        os.replace, os.rename = counted(os.replace), counted(os.rename)
        job()

    process = FORKED.Process(target=main)
    process.start()
    process.join(30)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


# Temporary names (security)


def test_a_planted_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    planted = tmp_path / ".a.json.0123456789abcdef.part"
    planted.symlink_to(precious)
    (tmp_path / f".a.json.{os.getpid()}.part").symlink_to(precious)
    monkeypatch.setattr("secrets.token_hex", lambda n: "0123456789abcdef")
    with pytest.raises(UserError, match=r"cannot write .*a.json: File exists"):
        write_text(tmp_path / "a.json", "new")
    monkeypatch.undo()
    write_text(tmp_path / "a.json", "new")
    assert precious.read_text() == "keep"
    assert (tmp_path / "a.json").read_text() == "new"


def test_temporary_names_cannot_be_guessed_and_are_never_too_long() -> None:
    names = {temporary_name("x" * 255) for _ in range(100)}
    assert len(names) == 100
    assert max(map(len, names)) < 100


def test_what_a_killed_process_left_beside_a_file_is_cleared_and_a_living_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"

    def dies(part: Path) -> None:
        part.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)

    process = FORKED.Process(target=write_atomically, args=(path, dies))
    process.start()
    process.join(30)
    assert len(list(tmp_path.iterdir())) == 1

    def writes(part: Path) -> None:
        part.write_text("outer")
        write_text(path, "inner")  # another writer of the same name clears what is dead, and not what is in use
        assert part.exists()

    write_atomically(path, writes)
    assert contents(tmp_path) == {"a.csv": "outer"}


def test_files_have_the_mode_that_the_user_wants(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


# Together


def pair(folder: Path, word: str) -> None:
    with together(folder) as stage:
        (stage / "model").mkdir()
        for name in ("model/a", "model/b", "c", "run.json"):
            write_text(stage / name, word)


def test_a_kill_at_any_renaming_leaves_all_old_or_all_new(tmp_path: Path) -> None:
    names, seen = ("model/a", "model/b", "c", "run.json"), set()
    for nth in range(40):
        folder = tmp_path / str(nth)
        pair(folder, "old")
        killed = killed_at(nth, lambda place=folder: pair(place, "new"))  # type: ignore[misc]
        settle(folder)
        found = contents(folder)
        assert set(found) == set(names)
        assert len(set(found.values())) == 1
        seen.add(found["c"])
        if not killed:
            break
    assert not killed
    assert nth > 7
    assert seen == {"old", "new"}


def test_what_stands_in_the_way_is_said_before_anything_changes(tmp_path: Path) -> None:
    pair(tmp_path, "old")
    (tmp_path / "c").unlink()
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*c: something of another kind"):
        pair(tmp_path, "new")
    assert contents(tmp_path) == {"model/a": "old", "model/b": "old", "run.json": "old"}
    assert not (tmp_path / COMMIT).exists()


def test_an_error_inside_leaves_nothing(tmp_path: Path) -> None:
    def fails() -> None:
        with together(tmp_path / "new") as stage:
            write_text(stage / "a", "x")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
    assert contents(tmp_path) == {}


# Only what is ours is removed


def a_run(path: Path, status: str = "finished", **more: Any) -> None:
    for name in [*RUN_FILES, "checkpoint/state-3.safetensors", "trace/part-00000.parquet"]:
        write_text(path / name, "old")
    write_json(path / "run.json", {"asked": {"seed": 1}, "status": status, **more})


def test_force_removes_only_files_of_ours_and_after_the_new_run_stands(tmp_path: Path) -> None:
    path = tmp_path / "r"
    a_run(path)
    others = {"predictions.csv": "mine", "thesis.doc": "mine", "model/notes.txt": "mine", "trace/x.parquet": "mine"}
    for name, content in others.items():
        (path / name).write_text(content)
    outside = tmp_path / "outside.json"
    outside.write_text("keep")
    (path / "compare.json").unlink()
    (path / "compare.json").symlink_to(outside)
    before = contents(path)
    folder = RunFolder.create(path, {"seed": 2}, force=True)
    folder.write(status="running")
    folder.write_json("dataset.json", {"new": True})
    assert contents(path) == before
    folder.abandon()  # a refused start leaves what was there
    assert contents(path) == before
    folder = RunFolder.create(path, {"seed": 2}, force=True)
    folder.write_json("dataset.json", {"new": True})
    folder.begin()
    folder.release()
    assert set(contents(path)) == {*others, "run.json", "dataset.json"}
    assert json.loads((path / "run.json").read_text())["asked"] == {"seed": 2}
    assert {name: (path / name).read_text() for name in others} == others
    assert outside.read_text() == "keep"


def test_a_link_to_a_folder_elsewhere_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "model.json").write_text("keep")
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "model").symlink_to(tmp_path / "elsewhere")
    remove_run(tmp_path / "r")
    assert (tmp_path / "elsewhere" / "model.json").read_text() == "keep"


def forced(path: Path) -> None:
    folder = RunFolder.create(path, {"seed": 2}, force=True)
    folder.write_json("dataset.json", {"new": True})
    folder.begin()


def test_a_kill_while_a_run_is_replaced_hides_nothing(tmp_path: Path) -> None:
    seen = set()
    for nth in range(30):
        path = tmp_path / str(nth) / "r"
        a_run(path)
        (path / "thesis.doc").write_text("mine")
        before = contents(path)
        killed = killed_at(nth, lambda place=path: forced(place))  # type: ignore[misc]
        seed = RunFolder.resume(path).record["asked"]["seed"]
        seen.add(seed)
        found = contents(path)
        assert found == before if seed == 1 else set(found) == {"run.json", "dataset.json", "thesis.doc"}
        assert [p.name for p in path.parent.iterdir()] == ["r"]
        if not killed:
            break
    assert not killed
    assert seen == {1, 2}


@pytest.mark.parametrize("there", [False, True])
def test_what_an_earlier_version_moved_aside_is_found(tmp_path: Path, there: bool) -> None:
    aside = tmp_path / ".r.replaced-4711"
    a_run(aside)
    (aside / "thesis.doc").write_text("mine")
    if there:
        a_run(tmp_path / "r", name="new")
    found = RunFolder.resume(tmp_path / "r")
    assert found.record.get("name") == ("new" if there else None)
    assert (tmp_path / "r" / "thesis.doc").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


# Places


def test_four_processes_that_start_at_once_get_four_places(tmp_path: Path) -> None:
    gate, found = FORKED.Barrier(4), FORKED.Queue()

    def start() -> None:
        gate.wait()
        for _ in range(5):
            found.put(str(next_free("houses", tmp_path / "runs")[0]))

    processes = [FORKED.Process(target=start) for _ in range(4)]
    for process in processes:
        process.start()
    places = [found.get(timeout=30) for _ in range(20)]
    for process in processes:
        process.join(30)
    assert len(set(places)) == 20
    assert all(Path(place).is_dir() for place in places)


def test_a_refused_start_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    RunFolder.create(None, {}, name="t").abandon()
    RunFolder.create("a/b/c", {}).abandon()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    RunFolder.create("mine", {}).abandon()
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]  # it was there before


def test_a_failed_run_is_replaced_without_force(tmp_path: Path) -> None:
    a_run(tmp_path / "r", "failed")
    folder = RunFolder.create(tmp_path / "r", {"seed": 3})
    folder.begin()
    folder.release()
    assert json.loads((tmp_path / "r" / "run.json").read_text())["asked"] == {"seed": 3}


def test_touches_are_counted_before(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "r", {})
    assert folder.touch() == 1
    assert json.loads((tmp_path / "r" / "run.json").read_text())["test_touches"] == 1
    folder.release()
    assert RunFolder.resume(tmp_path / "r").touch() == 2


# Records

MINE = Kind(
    "mine",
    record(
        {"words": listing(text), "share": number(0, 1), "count": whole(1)},
        {"kind": one_of("a", "b"), "pairs": listing(row(text, maybe(number())))},
    ),
    version=3,
    migrations={1: lambda old: {**old, "share": old.get("part", 0)}, 2: lambda old: {**old, "count": 1}},
    sealed=True,
    sealed_since=3,
)
RIGHT: dict[str, Any] = {"words": ["a"], "share": 0.5, "count": 2}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format_version": 4}, "has format_version 4, this Nastavnik reads up to 3: update it"),
        ({"format_version": 0}, "has format_version 0"),
        ({"format_version": "3"}, "format_version must be a whole number, not '3'"),
        ({"format_version": True}, "format_version must be a whole number, not True"),
        ({"words": ["a", 3]}, r"is damaged: words\[1\] must be a text, not 3"),
        ({"words": "a"}, "words must be a list, not 'a'"),
        ({"share": 1.5}, "share must be a finite number from 0 to 1, not 1.5"),
        ({"share": True}, "share must be a finite number"),
        ({"share": 10**400}, "share must be a finite number"),
        ({"count": 0}, "count must be a whole number from 1, not 0"),
        ({"count": 2.0}, "count must be a whole number"),
        ({"kind": "c"}, "kind must be one of a, b, not 'c'"),
        ({"kind": ["a"]}, "kind must be one of a, b, not a list of 1"),
        ({"pairs": [["a", 1], ["b"]]}, r"pairs\[1\] must be a list of 2"),
        ({"share": 0.6}, "it was changed after it was written"),
        ({"other": 1}, "it was changed after it was written"),
    ],
)
def test_a_damaged_record_is_told_in_a_sentence(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    write_json(tmp_path / "a.json", RIGHT, MINE)
    content = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(UserError, match=f"a.json {says}" if says.startswith("has") else says):
        read_json(tmp_path / "a.json", MINE)


@pytest.mark.parametrize("name", ["words", "share", "count", SEAL])
def test_a_missing_name_is_told(tmp_path: Path, name: str) -> None:
    write_json(tmp_path / "a.json", RIGHT, MINE)
    content = json.loads((tmp_path / "a.json").read_text())
    del content[name]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"is damaged: {name} is missing"):
        read_json(tmp_path / "a.json", MINE)


def test_older_records_are_migrated_step_by_step_and_layout_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"format_version": 1, "words": [], "part": 0.25}')
    assert read_json(tmp_path / "a.json", MINE)["share"] == 0.25
    write_json(tmp_path / "a.json", RIGHT, MINE)
    content = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(dict(reversed(content.items()))))
    assert {k: v for k, v in read_json(tmp_path / "a.json", MINE).items() if k in RIGHT} == RIGHT


@pytest.mark.parametrize("text_", ["", "{", "[" * 100_000, '{"a": NaN}', "[1]", "3", '"x"', "1" * 5000])
def test_what_is_no_record_is_told(tmp_path: Path, text_: str) -> None:
    (tmp_path / "a.json").write_text(text_)
    with pytest.raises(UserError, match=r"a.json (cannot be read|is damaged)"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("way", ["folder", "pipe", "/dev/zero", "itself"])
def test_what_is_no_file_is_told_at_once(tmp_path: Path, way: str) -> None:
    path = tmp_path / "a.json"
    if way == "folder":
        path.mkdir()
    elif way == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path if way == "itself" else way)
    with pytest.raises(UserError, match=r"a.json cannot be read"):
        read_bytes(path)


def test_another_content_than_was_written_is_not_believed(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "content")
    right = file_hash(tmp_path / "a")
    assert read_bytes(tmp_path / "a", right) == b"content"
    write_text(tmp_path / "a", "contend")
    with pytest.raises(UserError, match="it is damaged or belongs to another run"):
        read_bytes(tmp_path / "a", right)
