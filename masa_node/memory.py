"""Memory: what start-up made is not looked through again, and room for large bodies is kept where glibc allows it."""

import ctypes
import gc

OBJECTS = 5_000
"""New objects until the youngest are looked through. A request makes some hundreds, and hardly a cycle."""

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""mallopt(3); the numbers are those of glibc's malloc.h."""
LARGEST_KEPT = 4 << 20
"""Bytes. Up to it a block comes from the heap, and not in fresh pages each time: a 1 MiB prompt costs half.

Larger ones go back to the system at once, as before: kept, they left 200 MiB behind after a rush of 30 MiB bodies.
"""
MOST_FREE = 64 << 20
"""Bytes of free heap that stay for the next bodies."""
GROWN_BY = 4 << 20
"""Bytes by which the heap grows at a time."""


def settle() -> None:
    """Once, when start-up is over. What is there stays to the end: the collector need not look at it (gc.freeze()).

    Not collected before: that takes 35 ms of the start, and finds a handful of objects.
    """
    gc.freeze()
    gc.set_threshold(OBJECTS)


def keep_room() -> bool:
    """Before there are bodies. False: the C library is not glibc (musl, macOS), and has its own way."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = ((M_MMAP_THRESHOLD, LARGEST_KEPT), (M_TRIM_THRESHOLD, MOST_FREE), (M_TOP_PAD, GROWN_BY))
    return all(mallopt(knob, value) == 1 for knob, value in wanted)
