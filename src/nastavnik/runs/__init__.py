"""A run: what is asked of it, its folder, how long there is, and what it tells while it goes on. Nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nastavnik.lazy import homes_of, lazily

if TYPE_CHECKING:
    from nastavnik.runs._clock import Clock as Clock
    from nastavnik.runs._clock import Deadline as Deadline
    from nastavnik.runs._clock import beside as beside
    from nastavnik.runs._listing import runs_in as runs_in
    from nastavnik.runs._progress import Progress as Progress
    from nastavnik.runs._progress import Watcher as Watcher
    from nastavnik.runs._request import CRITERIA as CRITERIA
    from nastavnik.runs._request import HALVINGS as HALVINGS
    from nastavnik.runs._request import OBJECTIVES as OBJECTIVES
    from nastavnik.runs._request import SAMPLERS as SAMPLERS
    from nastavnik.runs._request import DatasetOptions as DatasetOptions
    from nastavnik.runs._request import FitRequest as FitRequest
    from nastavnik.runs._request import check_target as check_target
    from nastavnik.runs._request import parse_budget as parse_budget
    from nastavnik.runs._request import parse_limits as parse_limits
    from nastavnik.runs._request import parse_memory as parse_memory
    from nastavnik.runs._request import parse_numbers as parse_numbers
    from nastavnik.runs._request import parse_pairs as parse_pairs
    from nastavnik.runs._request import target_names as target_names
    from nastavnik.runs._request import target_words as target_words
    from nastavnik.runs._run_folder import RunFolder as RunFolder
    from nastavnik.runs._run_folder import lasting_source as lasting_source
    from nastavnik.runs._run_folder import next_free as next_free

_NAMES = {
    "_clock": "Clock Deadline beside",
    "_listing": "runs_in",
    "_progress": "Progress Watcher",
    "_request": "CRITERIA DatasetOptions FitRequest HALVINGS OBJECTIVES SAMPLERS check_target parse_budget "
    "parse_limits parse_memory parse_numbers parse_pairs target_names target_words",
    "_run_folder": "RunFolder lasting_source next_free",
}
__getattr__, __dir__ = lazily(__name__, homes_of(__name__, _NAMES))
