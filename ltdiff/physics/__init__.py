"""Image physics on arrays: noise spectra, edges."""
