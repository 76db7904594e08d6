"""The commands of `ltdiff`, one file each."""
