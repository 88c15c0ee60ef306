"""Idle clients: those without a session, because they have not sent anything yet or have sent nothing for `--hibernate-after`.

Only the file descriptor of such a client is kept, in the epoll set of the process (poller.py). A session, its parser and the stack of its greenlet
take kilobytes.
"""

from typing import Any

from gmproxy.client.interfaces import State


class IdleClients:
    """All idle clients of one pool that have the same state.

    sessions           of the pool (gmproxy.client.sessions.Sessions); makes a session for a client that sends something
    state              what that session must know of the client
    after_next_reply   True if it is to close the connection after the next reply
    """

    __slots__ = ("sessions", "state", "after_next_reply")

    def __init__(self, sessions: Any, state: State, after_next_reply: bool) -> None:
        self.sessions = sessions
        self.state = state
        self.after_next_reply = after_next_reply
