"""The C library's heap: what it does with free memory, and how Python is made to allocate some objects from it.

By default it returns the end of the heap to the system as soon as 128 KiB of it are free, and takes a large block straight from the kernel:
a value of 100 KB then costs a page fault every 4 KiB, a fifth of its total cost (the benchmark's curve of values).
"""

import ctypes
import os
import sysconfig

#: Free bytes at the end of the heap that are kept.
KEPT = 4 * 1024 * 1024

#: A block of at least this many bytes comes from the kernel and is returned to it: few values are so large.
LARGEST = 4 * 1024 * 1024

#: The heap grows by this many bytes more than is needed.
MARGIN = 256 * 1024

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3

# From Python's pymem.h: the allocator domains.
RAW, MEM, OBJ = range(3)


def keep_freed_memory() -> None:
    """Tune malloc in this process; no effect where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_TOP_PAD, MARGIN)
        mallopt(M_MMAP_THRESHOLD, LARGEST)


def trim_heap() -> None:
    """Return all free pages of the C library's heap to the system, also what `keep_freed_memory` keeps. Takes milliseconds."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(MARGIN)


class CHeapObjects:
    """with CHeapObjects(): objects that are created inside are allocated from the C library's heap.

    Python keeps small objects in arenas of 1 MiB, and returns none of them while a single object in it lives. So memory that was needed
    once, by many objects, stays: a few that were created meanwhile hold all of it. The C library returns every free page.

    Freeing is not changed: Python's own `free` hands on to the C library what lies in no arena. To allocate all objects like this would
    cost some tenths of a microsecond for each request (docs/decisions.md).
    """

    def __init__(self) -> None:
        raw = _Allocator.in_use(RAW)
        self._usual = [(domain, _Allocator.in_use(domain)) for domain in (MEM, OBJ)]
        self._c_heap = [(domain, _Allocator.in_use(domain).allocating_from(raw)) for domain in (MEM, OBJ)]

    def __enter__(self) -> None:
        for domain, allocator in self._c_heap:
            allocator.install(domain)

    def __exit__(self, *exception: object) -> None:
        for domain, allocator in self._usual:
            allocator.install(domain)


class _Allocator(ctypes.Structure):
    """Python's PyMemAllocatorEx: addresses, 0 is None."""

    context: int | None
    malloc: int | None
    calloc: int | None

    _fields_ = [(name, ctypes.c_void_p) for name in ("context", "malloc", "calloc", "realloc", "free")]

    @classmethod
    def in_use(cls, domain: int) -> "_Allocator":
        """A copy of the one that Python uses for `domain`."""
        found = cls()
        ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(found))
        return found

    def install(self, domain: int) -> None:
        ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(self))

    def allocating_from(self, other: "_Allocator") -> "_Allocator":
        """This one, with the malloc and calloc of `other`. Unchanged where every block is tracked (PYTHONMALLOC=debug), or where Python's
        allocators are not those described above."""
        is_usual = not (self.context or other.context or os.environ.get("PYTHONMALLOC") or sysconfig.get_config_var("Py_GIL_DISABLED"))
        if is_usual:
            self.malloc, self.calloc = other.malloc, other.calloc
        return self


#: Around the creation of what lives as long as a client is busy.
C_HEAP_OBJECTS = CHeapObjects()
