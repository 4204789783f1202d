"""Choosing: what is searched, how candidates are drawn and compared, what is chosen, and against which baselines."""

from nastavnik.selection._baselines import Baseline as Baseline
from nastavnik.selection._baselines import fit_baselines as fit_baselines
from nastavnik.selection._choice import FINAL_MEMBERS as FINAL_MEMBERS
from nastavnik.selection._choice import Delivery as Delivery
from nastavnik.selection._choice import deliver as deliver
from nastavnik.selection._criteria import CHOOSING as CHOOSING
from nastavnik.selection._criteria import CRITERIA as CRITERIA
from nastavnik.selection._criteria import Rows as Rows
from nastavnik.selection._criteria import Verdict as Verdict
from nastavnik.selection._criteria import ask_criterion as ask_criterion
from nastavnik.selection._criteria import criteria_named as criteria_named
from nastavnik.selection._ensemble import greedy_ensemble as greedy_ensemble
from nastavnik.selection._importance import importance as importance
from nastavnik.selection._rates import RateSearch as RateSearch
from nastavnik.selection._rates import find_rate as find_rate
from nastavnik.selection._sampler import ask as ask
from nastavnik.selection._search import Candidate as Candidate
from nastavnik.selection._search import Search as Search
from nastavnik.selection._space import families_named as families_named
from nastavnik.selection._space import table_space as table_space
from nastavnik.selection._workbench import Part as Part
from nastavnik.selection._workbench import Workbench as Workbench
