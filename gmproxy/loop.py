"""A loop over descriptors and timers for a process without gevent: the master's."""

import selectors
import time

#: The loop looks up at least every so many seconds.
LONGEST_WAIT = 60.0


class Loop:
    def __init__(self):
        self._selector = selectors.DefaultSelector()
        self._timers = []  # unsorted: there are only a few

    def turn(self):
        """Wait for something to come or to be due, and call what is to be called."""
        due = min((timer.when for timer in self._timers), default=time.monotonic() + LONGEST_WAIT)
        for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
            if key.fd in self._selector.get_map():  # not taken out by what came before it
                key.data()
        now = time.monotonic()
        for timer in [timer for timer in self._timers if timer.when <= now]:
            if timer in self._timers:
                self._timers.remove(timer)
                timer.call()

    # -- descriptors

    def watch(self, source, call):
        """Have `call` called when `source`, a socket or the number of a descriptor, can be read."""
        self._selector.register(source, selectors.EVENT_READ, call)

    def forget(self, source):
        """Before it is closed, or after."""
        try:
            self._selector.unregister(source)
        except (KeyError, ValueError):
            pass

    def sources(self):
        return [key.fileobj for key in self._selector.get_map().values()]

    def close(self):
        self._selector.close()

    # -- time

    def after(self, seconds, call):
        """Have `call` called once. Returns what `cancel` takes."""
        timer = _Timer(time.monotonic() + seconds, call)
        self._timers.append(timer)
        return timer

    def every(self, seconds, call):
        def again():
            self.after(seconds, again)
            call()

        self.after(seconds, again)

    def cancel(self, timer):
        if timer in self._timers:
            self._timers.remove(timer)


class _Timer:
    def __init__(self, when, call):
        self.when = when
        self.call = call
