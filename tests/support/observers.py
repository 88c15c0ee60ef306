"""Observers of a Backend for unit tests: they record the calls."""


class RecordingObserver:
    """The observer of a Backend. `calls`: "health_changed" and "was_flushed", in order. If `raises`, each call raises after it is recorded."""

    def __init__(self):
        self.calls = []
        self.raises = False

    def health_changed(self):
        self._record("health_changed")

    def was_flushed(self, backend):
        self._record("was_flushed")

    def _record(self, name):
        self.calls.append(name)
        if self.raises:
            raise ValueError("a fault of the test")
