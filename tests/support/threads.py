"""Clients in threads."""

import threading

from support.timing import join


def run_in_threads(work, count):
    """Run work(number) in `count` threads at the same time, and wait for all of them. Raises the exception of the first one that failed."""
    errors = []

    def run(number):
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        join(thread)
    if errors:
        raise errors[0]
