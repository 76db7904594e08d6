"""The uncertainty of a standardized image and its features: calibration, intervals, mean or sample."""
