"""Clients without a session: those who have not spoken yet, and those who have long been silent. Of each only the descriptor is kept, in the
epoll set of the process (poller.py), where a session, its parser and the stack of its greenlet are kilobytes.
"""

from typing import Any

from gmproxy.client.interfaces import State


class IdleClients:
    """Clients of one pool that have no session and the same state.

    sessions           the pool's (gmproxy.client.sessions.Sessions): a client that sends something gets a session there
    state              what the next session must know of such a client
    after_next_reply   True if they are to leave after their next answer
    """

    __slots__ = ("sessions", "state", "after_next_reply")

    def __init__(self, sessions: Any, state: State, after_next_reply: bool) -> None:
        self.sessions = sessions
        self.state = state
        self.after_next_reply = after_next_reply
