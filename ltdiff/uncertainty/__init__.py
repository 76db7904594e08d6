"""How far a standardized image and its features can be trusted: calibration, intervals, mean or sample."""
