"""The C library's heap: how much free memory it keeps, and how Python is made to allocate some objects from it.

By default glibc returns the end of the heap to the kernel as soon as 128 KiB of it are free, and gets each large block from the kernel. A value of
100 KB then causes a page fault every 4 KiB, which is a fifth of its total cost (docs/performance, the curve of values).
"""

import ctypes
import os
import sysconfig

#: Maximum number of free bytes at the end of the heap that are not returned to the kernel.
KEPT = 4 * 1024 * 1024

#: A block of at least this many bytes is requested from the kernel and returned to it. Few values are as large.
LARGEST = 4 * 1024 * 1024

#: Bytes that the heap grows by beyond what is needed.
MARGIN = 256 * 1024

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3

# From Python's pymem.h: the domains of PyMem_GetAllocator.
RAW, MEM, OBJ = range(3)


def keep_freed_memory() -> None:
    """Have malloc keep up to KEPT free bytes in this process. No effect if the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_TOP_PAD, MARGIN)
        mallopt(M_MMAP_THRESHOLD, LARGEST)


def trim_heap() -> None:
    """Return all free pages of the C library's heap to the kernel, also those kept by `keep_freed_memory`. Takes milliseconds."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(MARGIN)


class CHeapObjects:
    """A context manager: objects created inside of the `with` are allocated from the C library's heap.

    Python allocates small objects in arenas of 1 MiB, and returns an arena only when it is empty. After a peak of many
    objects, a few that were created meanwhile keep nearly all arenas in use. The C library returns every free page.

    Freeing is not changed: Python's `free` passes what is in no arena to the C library. Allocating all objects this way would cost some
    tenths of a microsecond for each request (docs/decisions.md).
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
    """Python's PyMemAllocatorEx. Its fields are addresses; None is 0."""

    context: int | None
    malloc: int | None
    calloc: int | None

    _fields_ = [(name, ctypes.c_void_p) for name in ("context", "malloc", "calloc", "realloc", "free")]

    @classmethod
    def in_use(cls, domain: int) -> "_Allocator":
        """A copy of the allocator that Python uses for `domain`."""
        allocator = cls()
        ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(allocator))
        return allocator

    def install(self, domain: int) -> None:
        ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(self))

    def allocating_from(self, other: "_Allocator") -> "_Allocator":
        """This allocator, with the malloc and calloc of `other`. It is unchanged if Python tracks every block (PYTHONMALLOC=debug) or has other
        allocators than those described above."""
        is_usual = not (self.context or other.context or os.environ.get("PYTHONMALLOC") or sysconfig.get_config_var("Py_GIL_DISABLED"))
        if is_usual:
            self.malloc, self.calloc = other.malloc, other.calloc
        return self


#: Used around the creation of objects that live as long as a client is busy.
C_HEAP_OBJECTS = CHeapObjects()
