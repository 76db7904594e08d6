"""Volumes, pairs, the manifest, regions of interest, and the Ray Data stream that feeds training."""
