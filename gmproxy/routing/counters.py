"""What the routes of a pool count. The counters outlive each route: the route that replaces it continues with them."""


class RouteCounters:
    """
    fragments                requests to single servers that multi-gets were split into
    misses_for_errors        reads that no server could reply to, and that got a miss as their reply
    backup_writes_lost       copies of writes that failed
    backup_writes_differed   copies of writes to which the backup replied differently than the primary
    conflicting_changes      keys deleted on the backup because several workers changed them at the same time
    verify_compared          keys that the operator command `verify` found on a primary and its backup
    verify_different         those of them that had different values there
    """

    __slots__ = ("fragments", "misses_for_errors", "backup_writes_lost", "backup_writes_differed", "conflicting_changes",
                 "verify_compared", "verify_different")  # fmt: skip

    def __init__(self) -> None:
        self.fragments = 0
        self.misses_for_errors = 0
        self.backup_writes_lost = 0
        self.backup_writes_differed = 0
        self.conflicting_changes = 0
        self.verify_compared = 0
        self.verify_different = 0
