"""For processes that tests start: LightGBM and CatBoost are not there, whose baselines take seconds each."""

import sys

for name in ("lightgbm", "catboost"):
    sys.modules[name] = None  # type: ignore[assignment]
