"""Hyper-parameter search: Ray Tune with Optuna over short trainings, each judged on validation pairs.

space.py    what is searched, read from YAML (default_space.yaml)
trial.py    one short training, its scores on the way
sweep.py    Ray Tune, Optuna and ASHA; restart
report.py   table, best settings as YAML, plots
search.py   all of it, then the best at full length: `ltdiff tune`, `python tuning/search.py`
"""
