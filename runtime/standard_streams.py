"""Descriptors 0, 1 and 2, where a program was started without some of them, as by `2>&-`."""

from __future__ import annotations

import os
import sys


def open_closed_streams() -> None:
    """Give closed descriptors to the null device, and Python the streams for output that it then lacks.

    Otherwise the next file that is opened becomes descriptor 2, and libraries print into it.
    """
    # The lowest free descriptor is the one that is given; what must not be closed here is one of the three.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
