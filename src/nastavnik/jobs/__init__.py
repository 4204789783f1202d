"""Jobs: a page of code each, that reads like the sentence describing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nastavnik.lazy import homes_of, lazily

if TYPE_CHECKING:
    from nastavnik.jobs._check import Checkup as Checkup
    from nastavnik.jobs._check import check as check
    from nastavnik.jobs._compare import Comparison as Comparison
    from nastavnik.jobs._compare import compare as compare
    from nastavnik.jobs._fit import Run as Run
    from nastavnik.jobs._fit import families_of as families_of
    from nastavnik.jobs._fit import fit as fit
    from nastavnik.jobs._fit import fit_request as fit_request
    from nastavnik.jobs._predict import predict as predict
    from nastavnik.jobs._setup import show_space as show_space
    from nastavnik.jobs._try import Tryout as Tryout
    from nastavnik.jobs._try import try_settings as try_settings

_NAMES = {
    "_check": "Checkup check",
    "_compare": "Comparison compare",
    "_fit": "Run families_of fit fit_request",
    "_predict": "predict",
    "_setup": "show_space",
    "_try": "Tryout try_settings",
}
__getattr__, __dir__ = lazily(__name__, homes_of(__name__, _NAMES))
