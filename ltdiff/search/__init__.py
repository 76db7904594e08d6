"""Hyper-parameter search: Ray Tune with Optuna over short trainings, each judged on validation pairs; tune.py is all of it."""
