"""One YAML file per kind of run; each says its command, its time and its score."""
