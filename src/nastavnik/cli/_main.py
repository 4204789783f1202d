"""Where every command enters: mistakes become one sentence and exit code 2."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nastavnik.runs import Clock

_OBJECTS = 20_000  # between two looks for garbage; Python's 700 cost a third of a second while libraries are imported


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 the caller's mistake, 1 ours, 130 stopped by a second Ctrl-C."""
    from nastavnik.cli._streams import BROKEN_PIPE, flush, forget, open_streams, own_warnings_only
    from nastavnik.errors import complaint
    from nastavnik.runs import Clock

    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # else torch's threads spin where the machine is busy
    open_streams()
    own = arguments is None  # a process of ours: its budgets count from its start
    if own:
        gc.set_threshold(_OBJECTS)
    words = sys.argv[1:] if arguments is None else arguments
    try:
        with own_warnings_only():
            code = _run(words, Clock.of_process() if own else Clock())
        flush()
    except BrokenPipeError:
        forget()
        sys.exit(BROKEN_PIPE)
    except OSError as error:
        sentence = complaint(error)
        if sentence is None and error.filename is not None:
            raise
        forget()
        _fail(sentence or f"what was to be printed is lost: stdout {error.strerror or error}")
    if own:
        gc.freeze()  # the process ends: nothing is gained by looking for garbage in every module
    sys.exit(code)


def _run(words: list[str], clock: Clock) -> int:
    from nastavnik.arguments import is_text
    from nastavnik.cli._app import make_app
    from nastavnik.errors import UserError

    app, usage_error, abort = make_app()
    try:
        for word in words:
            if not is_text(word):
                raise UserError(f"{word!r} holds bytes that are no text; rename what it names, or type it again")
        code = app(words, standalone_mode=False, prog_name="nastavnik", obj=clock)
    except usage_error as error:
        _fail(f"{_sentence(error)} (see 'nastavnik {_command(words)}--help')")
    except UserError as error:
        _fail(str(error))
    except SystemExit as stop:
        if stop.code == 1 and type(sys.stdout).__name__ == "PacifyFlushWrapper":  # how typer says that nobody reads
            raise BrokenPipeError from stop
        raise
    except (abort, KeyboardInterrupt):
        print("nastavnik: stopped", file=sys.stderr)
        sys.exit(130)
    return code if isinstance(code, int) else 0


def _fail(sentence: str) -> None:
    print(f"nastavnik: {sentence}", file=sys.stderr)
    sys.exit(2)


def _sentence(error: BaseException) -> str:
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    message = " ".join(message.split()).rstrip(".")
    return message[:1].lower() + message[1:]


def _command(words: list[str]) -> str:
    return f"{words[0]} " if words and not words[0].startswith("-") else ""
