"""What workers had counted that do not answer any more.

Without it a sum over all workers would fall when one of them dies or hangs; and what reads counters (Prometheus, a script over `stats`) takes
that for a service that has begun anew, and all that is left for a burst.
"""

from gmproxy.client import stats
from gmproxy.monitoring import report

#: question -> (what of an answer counts, many answers -> one)
COUNTED = {"report": (report.counted, report.merge), "stats": (stats.counted, lambda answers: stats.merge(answers, 0))}


class CounterTotals:
    """What each worker has last told, as an answer in which only the counters are left. It lasts as long as the service."""

    def __init__(self):
        self._told = {}  # question with its arguments -> pid -> answer
        self._gone = {}  # question with its arguments -> the answers of all that have died, as one

    def heard(self, command, arguments, pid, answer):
        """The worker `pid` has answered."""
        if command in COUNTED and "error" not in answer:
            counted, _ = COUNTED[command]
            self._told.setdefault((command, *arguments), {})[pid] = counted(answer)

    def died(self, pid):
        for question, told in self._told.items():
            last = told.pop(pid, None)
            if last is not None:
                _, merge = COUNTED[question[0]]
                self._gone[question] = merge([self._gone[question], last]) if question in self._gone else last

    def completed(self, command, arguments, answers):
        """The `answers` (pid -> answer) as a list, and at its end what those had counted that have not answered."""
        told = list(answers.values())
        if command in COUNTED and any("error" not in answer for answer in told):
            question = (command, *arguments)
            told += [answer for pid, answer in self._told.get(question, {}).items() if pid not in answers]
            if question in self._gone:
                told.append(self._gone[question])
        return told

    def clear(self):
        """All counters begin anew."""
        self._told.clear()
        self._gone.clear()
