"""LTDiff++ and what a user would pick instead: one file each, one protocol (fit, standardize)."""
