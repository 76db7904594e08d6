"""Standardizing a slice, a volume, an archive."""
