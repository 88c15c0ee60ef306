"""A clock for unit tests: the test sets its time."""


class ManualClock:
    """`now`: seconds, which the test sets. A call returns them, as time.monotonic does."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now
