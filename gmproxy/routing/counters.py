"""What the routes of a pool count. They go on counting here when a route takes the place of another."""


class RouteCounters:
    """
    fragments                requests that were made of those for several keys
    misses_for_errors        reads that no server could answer, and that were answered as misses
    backup_writes_lost       copies of changes that failed
    backup_writes_differed   copies that a backup answered otherwise than the primary
    """

    __slots__ = ("fragments", "misses_for_errors", "backup_writes_lost", "backup_writes_differed")

    def __init__(self) -> None:
        self.fragments = 0
        self.misses_for_errors = 0
        self.backup_writes_lost = 0
        self.backup_writes_differed = 0
