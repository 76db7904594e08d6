"""This machine: files and folders that are whole or not there, locks, cores and memory, Ray, text for messages."""
