"""The C library's heap, so set that what a value leaves behind is there for the next.

By itself it gives the end of the heap back as soon as 128 KiB of it are free, and takes a large block straight from the kernel:
a value of 100 KB then costs a page fault every 4 KiB, a fifth of all that it costs (the benchmark's curve of values).
"""

import ctypes

#: Free bytes at the end of the heap that are kept.
KEPT = 4 * 1024 * 1024

#: A block of so many bytes comes from the kernel and goes back to it: there are few values so large.
LARGEST = 4 * 1024 * 1024

#: The heap grows by so many bytes more than is needed.
MARGIN = 256 * 1024

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory():
    """For this process, where its C library can be told; glibc can."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_TOP_PAD, MARGIN)
        mallopt(M_MMAP_THRESHOLD, LARGEST)
