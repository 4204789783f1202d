from typing import Any
def model_card(*a: Any) -> str: return ""
def write_report(*a: Any) -> None: pass
