"""The report of a run as one page that needs no connection, and the model's card."""

from nastavnik.report._card import model_card as model_card
from nastavnik.report._mentor import show_findings as show_findings
from nastavnik.report._report import write_report as write_report
