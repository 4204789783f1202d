"""The report of a run as one page that needs no connection, and the model's card."""

from nastavnik.report._card import model_card as model_card
from nastavnik.report._mentor import show_findings as show_findings
from nastavnik.report._report import write_report as write_report
from nastavnik.report._try import tryout as tryout
from nastavnik.report._try import write_tryout as write_tryout
from nastavnik.report._words import against_baselines as against_baselines
from nastavnik.report._words import baseline_words as baseline_words
from nastavnik.report._words import best_baseline as best_baseline
from nastavnik.report._words import blended as blended
from nastavnik.report._words import by_target as by_target
from nastavnik.report._words import hardly_trained as hardly_trained
from nastavnik.report._words import not_done as not_done
from nastavnik.report._words import of_one_fold as of_one_fold
