"""Errors that more than one room raises."""


class NothingToDoError(ValueError):
    """What was asked for could be done, but nothing here is for it: whoever starts commands may pass it over (exit code 3)."""
