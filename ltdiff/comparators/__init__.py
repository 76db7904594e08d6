"""What a user would pick instead of LTDiff++: one file each, one protocol (fit, standardize)."""
