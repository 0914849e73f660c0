"""Backends compared on one model, each in a process of its own."""
