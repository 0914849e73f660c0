"""Accuracy, parity, speed and the state of this machine."""
