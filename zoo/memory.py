"""Freed memory is kept: what one training step frees, the next one takes."""

import ctypes
import sys

# glibc's own names and numbers for `mallopt`, from malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> None:
    """Have glibc keep the memory that tensors free, up to a gigabyte; elsewhere, do nothing.

    By default it hands larger pieces back to the system, and the next step pays for fresh pages: 2,000 page faults a
    step of LeNet with batches of 128, up to a quarter of the time. The setting is the process's, so it is for a program
    that trains, not for a library to make.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    for parameter, value in ((M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, 1 << 30), (M_TOP_PAD, 64 << 20)):
        mallopt(parameter, value)
