from gmproxy.placement.locators cimport Locator


cdef class Copies:
    cdef readonly list sets
    cdef Locator _locator
    cdef list _of_one_set

    cpdef list of(self, bytes key)
