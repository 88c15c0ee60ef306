"""Memory: what the C library does with what is free, and where objects come from of which there may be many for a while.

By itself it gives the end of the heap back as soon as 128 KiB of it are free, and takes a large block straight from the kernel:
a value of 100 KB then costs a page fault every 4 KiB, a fifth of all that it costs (the benchmark's curve of values).
"""

import ctypes
import os
import sysconfig

#: Free bytes at the end of the heap that are kept.
KEPT = 4 * 1024 * 1024

#: A block of so many bytes comes from the kernel and goes back to it: there are few values so large.
LARGEST = 4 * 1024 * 1024

#: The heap grows by so many bytes more than is needed.
MARGIN = 256 * 1024

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3

# From Python's pymem.h: who asks for memory.
RAW, MEM, OBJ = range(3)


def keep_freed_memory():
    """For this process, where its C library can be told; glibc can."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_TOP_PAD, MARGIN)
        mallopt(M_MMAP_THRESHOLD, LARGEST)


def give_back_memory():
    """All that is free in the C library's heap goes back to the system, page by page, also what `keep_freed_memory` keeps. Takes
    milliseconds."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(MARGIN)


class Apart:
    """with Apart(): the objects that are made there come from the C library's heap.

    Python keeps small objects in arenas of 1 MiB, and gives none of them back while a single object in it lives. So memory that was needed
    once, by many objects, stays: a few that were made meanwhile hold all of it. The C library gives back every free page.

    How they are freed is left as it is: Python's own way hands on to the C library what lies in no arena. To allocate all objects so would
    cost some tenths of a microsecond for each request (docs/decisions.md).
    """

    def __init__(self):
        raw = _Allocator.of(RAW)
        self._usual = [(domain, _Allocator.of(domain)) for domain in (MEM, OBJ)]
        self._apart = [(domain, _Allocator.of(domain).asking(raw)) for domain in (MEM, OBJ)]

    def __enter__(self):
        for domain, allocator in self._apart:
            allocator.set(domain)

    def __exit__(self, *failure):
        for domain, allocator in self._usual:
            allocator.set(domain)


class _Allocator(ctypes.Structure):
    """Python's PyMemAllocatorEx."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("context", "malloc", "calloc", "realloc", "free")]

    @classmethod
    def of(cls, domain):
        """The one in use."""
        found = cls()
        ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(found))
        return found

    def set(self, domain):
        ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(self))

    def asking(self, other):
        """This one, but what is new comes from the `other`. Not where somebody watches every block (PYTHONMALLOC=debug), or Python has other
        ways than those described above."""
        is_usual = not (self.context or other.context or os.environ.get("PYTHONMALLOC") or sysconfig.get_config_var("Py_GIL_DISABLED"))
        if is_usual:
            self.malloc, self.calloc = other.malloc, other.calloc
        return self
