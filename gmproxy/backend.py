"""One memcached server: its links, its health, and what was counted about it."""

import gevent

from gmproxy import net, probe
from gmproxy.accel import pick
from gmproxy.errors import CONNECTING, EJECTED, OVERLOAD, TIMEOUT, BackendError
from gmproxy.health import Health

END = b"END\r\n"

#: A server that did not say who it is is asked again after so many seconds.
IDENTIFY_AGAIN = 10

new_link = pick("link").Link

#: Requests that may wait on one link, and bytes the kernel has not taken from it; beyond them a request is refused.
MAX_WAITING = 16384
MAX_BACKLOG = 64 * 1024 * 1024


class Backend:
    """
    server        where it is (gmproxy.address.Server)
    label         its name in logs and replies
    router        hears of every failed request and, while `ask_backup_on_miss`, of every miss
    backed        True for a primary that has backups
    links         one place for each lane; None where no link is open
    ask_backup_on_miss   True while a miss of this server proves nothing, because its memory may be empty
    """

    __slots__ = ("server", "label", "options", "router", "backed", "log", "links", "health", "ask_backup_on_miss", "identity",
                 "warming_until", "requests", "keys_asked", "values_found", "failures", "refills", "_lanes", "_troubled", "_inspecting",
                 "_identify_at", "_loop")

    def __init__(self, server, options, router, log, backed=False):
        self.server = server
        self.label = server.label
        self.options = options
        self.router = router
        self.backed = backed
        self.log = log
        self.links = [None] * options.lanes
        self.health = Health(options.server_failure_limit, options.server_retry_timeout)
        self.ask_backup_on_miss = backed and options.on_miss == "always"
        self.identity = None
        self.warming_until = 0.0
        self.requests = 0
        self.keys_asked = 0
        self.values_found = 0
        self.failures = 0
        self.refills = 0
        self._lanes = options.lanes
        self._troubled = False   # failed lately: tell the health of successes
        self._inspecting = None  # the greenlet that probes or identifies the server
        self._identify_at = 0.0  # not before this time
        self._loop = gevent.get_hub().loop

    def __repr__(self):
        state = "ejected" if self.health.ejected else "up"
        return f"<Backend {self.label} {state} links={sum(link is not None for link in self.links)}>"

    # -- requests

    def submit(self, request):
        """Send `request`, or have it fail now. Returns the session that waits for no more replies, if there is one."""
        lane = request.lane % self._lanes
        link = self.links[lane]
        if link is None:
            if self.health.ejected:
                return self.router.failed(request, self, EJECTED)
            link = self._open_link(lane)
        elif len(link.waiting) >= MAX_WAITING or link.backlog() > MAX_BACKLOG:
            self.failures += 1
            return self.router.failed(request, self, OVERLOAD)
        link.submit(request)
        return None

    def answered(self, request, found):
        """A reply has come for `request`, with `found` values. Returns the session that waits for no more replies, if any."""
        self.requests += 1
        if self._troubled:
            self.health.succeeded()
            self._troubled = False
        if request.verb.values:
            asked = 1 if request.keys is None else len(request.keys)
            self.keys_asked += asked
            self.values_found += found
            if self.ask_backup_on_miss and found < asked and request.reply.endswith(END):
                return self.router.missed(request, self)
        owner = request.owner
        if owner is None:
            return None
        return owner.answered(request)

    def request_failed(self, request, reason, started, begun):
        """A link failed before it had the reply to `request`, of which the server may have seen something if `started`, and
        of whose reply something had arrived if `begun`.

        A request that no server has seen, and one that may be repeated, gets one more chance on a fresh link: it may only
        have met a connection that died while nobody used it.
        """
        if not request.retried and reason in ("closed", "reset"):
            if not started or (request.verb.repeatable and not begun):
                request.retried = True
                return self.submit(request)
        return self.router.failed(request, self, reason)

    # -- links

    def preconnect(self):
        if self.links[0] is None:
            self._open_link(0)

    def _open_link(self, lane):
        link = new_link(self, lane, self._loop)
        self.links[lane] = link
        gevent.spawn(self._connect, link)
        return link

    def _connect(self, link):
        try:
            sock = net.connect(self.server, self.options.connect_timeout, self.options.tcpkeepalive)
        except BackendError as error:
            self._loop.run_callback(link.fail, error.reason, error.detail)
            return
        if link.closed:
            sock.close()
        else:
            link.attach(sock)
            self._identify_at = 0.0
            self.log.debug("link opened server=%s lane=%d", self.label, link.lane)
            if self.identity is None:
                self._identify_soon()

    def link_closed(self, link):
        self.log.debug("link closed server=%s lane=%d", self.label, link.lane)
        if self.links[link.lane] is link:
            self.links[link.lane] = None
        self.identity = None  # it may be another process, with an empty memory, when we come back

    def link_failed(self, link, reason, detail, lost):
        """`link` is closed and `lost` requests on it have no reply. A connection that ended idle is no failure."""
        if not lost:
            return
        self.failures += lost
        self._troubled = True
        now = self._loop.now()
        first = self.health.failures == 0
        # Requests that wait in vain are as many failures. A connection that breaks is one, however many it takes with it.
        ejected = self.health.failed(now, lost if reason in (TIMEOUT, CONNECTING) else 1)
        if first or ejected:
            self.log.warning("backend failed server=%s reason=%s detail=%r requests=%d", self.label, reason, detail, lost)
        if ejected:
            self.log.warning("backend ejected server=%s reason=%s failures=%d", self.label, reason, self.health.failures)
            self._drop_links(reason)
            self.router.health_changed()

    def _drop_links(self, reason):
        for link in self.links:
            if link is not None:
                link.fail(reason)

    def follow_options(self, backed):
        """The options have changed. Links, health and counters stay; a lane too many is closed once nobody has used it for a while."""
        options = self.options
        self._lanes = options.lanes
        self.links += [None] * (options.lanes - len(self.links))
        self.health.failure_limit = options.server_failure_limit
        self.health.longest_delay = options.server_retry_timeout
        self.backed = backed
        if self._may_be_warming():
            self.identity = None  # ask again: how long it counts as warming may have changed
        else:
            self.ask_backup_on_miss = backed and options.on_miss == "always"

    def is_busy(self):
        """True while somebody waits for an answer."""
        return any(link is not None and link.waiting for link in self.links)

    def reset_counters(self):
        self.requests = self.keys_asked = self.values_found = self.failures = self.refills = 0

    def close(self):
        for link in self.links:
            if link is not None:
                link.close()
        if self._inspecting is not None:
            self._inspecting.kill(block=False)

    # -- time

    def tick(self, now):
        """What is due: late links, idle links, probes, the end of warming. Called a few times a timeout."""
        options = self.options
        for link in self.links:
            if link is not None:
                link.check_late(now, options.timeout)
        for link in self.links:
            if link is not None:
                link.check_idle(now, options.server_idle_timeout)
        if self.health.probe_is_due(now) and self._inspecting is None:
            self._inspecting = gevent.spawn(self._probe)
        if self.identity is None:
            if not self.health.ejected and any(self.links):
                self._identify_soon()
        elif self.ask_backup_on_miss and self._may_be_warming() and now >= self.warming_until:
            self.ask_backup_on_miss = False
            self.log.info("backend warm server=%s", self.label)

    def _probe(self):
        try:
            probe.greet(self.server, self.options.connect_timeout, self.options.timeout)
        except BackendError as error:
            self.log.debug("probe failed server=%s reason=%s", self.label, error)
            self.health.probe_failed(self._loop.now())
        else:
            down = self._loop.now() - self.health.ejected_at
            self.health.restored()
            self._troubled = False
            self.log.warning("backend restored server=%s down=%.1fs", self.label, down)
            self.router.health_changed()
        finally:
            self._inspecting = None
        if not self.health.ejected:
            self._identify_soon()

    # -- who is it?

    def _may_be_warming(self):
        return self.backed and self.options.on_miss == "warming"

    def _identify_soon(self):
        """Until it is known that the server is the process it was, and has run for long, a miss proves nothing."""
        if not self._may_be_warming():
            return
        self.ask_backup_on_miss = True
        if self._inspecting is not None or self._loop.now() < self._identify_at:
            return
        self._inspecting = gevent.spawn(self._identify)

    def _identify(self):
        try:
            self._identified(probe.identify(self.server, self.options.connect_timeout, self.options.timeout))
        except BackendError as error:
            self._identify_at = self._loop.now() + IDENTIFY_AGAIN
            self.log.warning("backend not identified server=%s reason=%s", self.label, error)
        finally:
            self._inspecting = None

    def _identified(self, identity):
        self.identity = identity
        if not self._may_be_warming():
            return
        uptime = 0 if identity.uptime is None else identity.uptime
        left = self.options.warming_time - uptime
        self.ask_backup_on_miss = left > 0
        if left > 0:
            self.warming_until = self._loop.now() + left
            self.log.info("backend warming server=%s pid=%s uptime=%ds", self.label, identity.pid, uptime)
