"""Generators of files in this repository."""
