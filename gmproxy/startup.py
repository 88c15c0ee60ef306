"""Start-up of gmproxy, magent and nutcracker: reads the configuration, and serves or does what an option such as --test-conf requests.

Exit status: 0 success, 1 the system refuses (a port in use, an unknown user), 2 the configuration is not valid; nutcracker has 1 for both.
"""

import functools
import logging
import os
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from typing import Any

from gmproxy.config import configuration, description, nutcracker_options, sample
from gmproxy.config.configuration import Config
from gmproxy.errors import ConfigError, GmproxyError, StartError
from gmproxy.monitoring import log_output, logging_setup
from gmproxy.placement.profiles import PROFILES
from gmproxy.process.listeners import ListeningSockets
from gmproxy.process.service_memory import ServiceMemory
from gmproxy.process.supervisor import Supervisor
from gmproxy.process.worker_context import WorkerContext
from gmproxy.process.worker_group import WorkerGroup
from gmproxy.shared import journal_directory
from gmproxy.system import bootstrap, daemon, descriptors, pid_keeper, proctitle, sockets, systemd
from gmproxy.system.systemd import Notifier

log = logging.getLogger("gmproxy")


def run_command_line(program: str, compat: str, arguments: list[str] | None = None) -> int:
    """Run the command `program` with `arguments`; None: those of the process. `compat`: the program that is emulated unless the configuration
    names one. Returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    compat, arguments = nutcracker_options.compat_of(compat, arguments, os.environ)
    if compat == "nutcracker":
        return _run_as_nutcracker(arguments)
    return _run(program, compat, arguments)


def _run_as_nutcracker(arguments: Sequence[str]) -> int:
    """Run with nutcracker's `arguments`, its exit statuses, and its output on stderr. Returns the exit status."""
    try:
        line = nutcracker_options.read(arguments)
    except nutcracker_options.UsageError as error:
        bootstrap.print_error(f"nutcracker: {error}\n{nutcracker_options.USAGE}")
        return nutcracker_options.FAILED
    information = line.information()
    if information is not None:
        bootstrap.print_error(information)
        return 0
    syntax = f"nutcracker: configuration file '{line.conf_file}' syntax is"
    status = _run("nutcracker", "nutcracker", line.for_gmproxy(), f"{syntax} ok")
    if status and line.is_test:
        bootstrap.print_error(f"{syntax} invalid\n")
    return min(status, nutcracker_options.FAILED)


def _run(program: str, compat: str, arguments: Sequence[str], verdict: str = "") -> int:
    """Run the command. `verdict`: printed to stderr if --test-conf finds a valid configuration, instead of gmproxy's own line on stdout.
    Returns the exit status."""
    start_report = daemon.StartReport()
    try:
        listening_sockets = ListeningSockets(environment := dict(os.environ))
        start_report.pipe = listening_sockets.report_to
        source = configuration.ConfigSource(arguments, environment, program, compat)
        configs = source.load()
        if source.actions and "demo" not in source.actions:
            bootstrap.default_signals()
        if "list_profiles" in source.actions:
            print("\n".join(f"{name:40} {profile.description}" for name, profile in PROFILES.items()))
        elif "test_conf" in source.actions:
            daemon.user_ids(configs[0].user, configs[0].group)
            _check_names(configs)
            bootstrap.print_error("".join(f"{program}: warning: {warning}\n" for warning in source.warnings))
            print(verdict or _verdict(program, configs), file=sys.stderr if verdict else sys.stdout)
        elif "print_config" in source.actions:
            print(description.describe(configs))
        elif "print_sample_config" in source.actions:
            print(sample.sample_configuration(), end="")
        elif "print_systemd_unit" in source.actions:
            print(sample.systemd_unit(_directory_of_commands()), end="")
        elif "demo" in source.actions:
            from gmproxy import demo

            demo.run(configs[0], program)
        else:
            proctitle.drop_interpreter()
            _serve(Supervisor(source, configs, listening_sockets, Notifier(source.environment), start_report), program)
    except GmproxyError as error:
        start_report.report(f"{program}: {error}\n")
        severity = f"<{log_output.severity_of(logging.ERROR)}>" if systemd.is_journal(log_output.STDERR, os.environ) else ""
        bootstrap.print_error(f"{severity}{program}: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 1
    except Exception as error:
        start_report.report(f"{program}: {type(error).__name__}: {error}\n")
        raise
    return 0


def _directory_of_commands() -> str:
    """The directory of the command that was run; for `python -m gmproxy`, that of the commands of this Python."""
    command = sys.argv[0]
    return sysconfig.get_path("scripts") if command.endswith(".py") else os.path.dirname(os.path.abspath(command))


def _check_names(configs: Sequence[Config]) -> None:
    """Look up the host names to listen on, without listening. Raises StartError."""
    for config in configs:
        for address in sockets.listen_addresses(config):
            sockets.check_address(config, address)


def goes_to_background(config: Config) -> bool:
    """True if the service forks into the background: with the setting `daemon`; a magent also without it, unless `foreground` or `verbose` is
    set."""
    is_daemon: bool = config.daemon
    is_magent: bool = config.compat == "magent"
    return is_daemon or (is_magent and not (config.foreground or config.verbose))


def _verdict(program: str, configs: Sequence[Config]) -> str:
    """The line that --test-conf prints for a valid configuration."""
    config = configs[0]
    if config.pools:
        return f"{program}: configuration file '{config.pools}' syntax is ok: {len(configs)} pools"
    replicas = f", replicas: {len(config.replicas)}" if config.replicas else ""
    return f"{program}: configuration is valid: servers: {len(config.server)}, backups: {len(config.backup)}{replicas}"


def _serve(supervisor: Supervisor, program: str) -> None:
    """Bind, fork into the background, write the pid file, change the user, and serve until the service ends. Raises StartError. Removes the
    files that it has created.

    Signals are held until the workers serve, so between the steps it checks whether one of them ends the service.
    """
    listening_sockets, start_report = supervisor.listening_sockets, supervisor.start_report
    config = supervisor.configs[0]  # the settings of the process are the same in each Config
    in_background = goes_to_background(config)
    warnings = supervisor.source.warnings
    if (in_background or config.log_file) and listening_sockets.predecessor is None:
        # To the terminal too: below they are written only to the log.
        bootstrap.print_error("".join(f"{program}: warning: {warning}\n" for warning in warnings))
    try:
        listening_sockets.bind_new(supervisor.configs)
        if config.control:
            listening_sockets.open_control(config.control, daemon.user_ids(config.user, config.group))
        if bootstrap.end_is_pending():
            return
        if in_background and start_report.pipe is None:
            start_report.pipe = daemon.go_to_background()
        stderr = log_output.open_stderr()  # before the change of user
        descriptors.reserve(supervisor.configs)
        set_up_logs = functools.partial(logging_setup.set_up, in_background=in_background)
        if config.log_file:
            daemon.create_for(config.user, config.group, config.log_file, log_output.MODE)
        if config.journal_dir:
            journal_directory.prepare(config.journal_dir, config.user, config.group)
        with daemon.acting_as(config.user, config.group):
            set_up_logs(config)
        for warning in warnings:
            log.warning("configuration warning: %s", warning)
        if config.pid_file and listening_sockets.predecessor is None:
            daemon.write_pid_file(config.pid_file)
            if pid_keeper.is_needed(config.pid_file, config.user, config.group):
                supervisor.pid_keeper = pid_keeper.PidKeeper.start(config.pid_file)
        daemon.drop_privileges(config.user, config.group)
        if bootstrap.end_is_pending():
            start_report.report(f"{program}: terminated by a signal during start-up\n")
            return
        names = ", ".join(address for address in listening_sockets.sockets if address not in sockets.admin_addresses(config))
        sys.stderr = log_output.NonBlockingStderr(stderr)

        def ready() -> None:
            print(f"{program}: serving on {names}", file=sys.stderr)

        _worker_group(supervisor, set_up_logs).run(ready)
    finally:
        bootstrap.ignore_signals()
        supervisor.clean_up()


def _worker_group(supervisor: Supervisor, set_up_logs: Callable[..., Any]) -> WorkerGroup:
    """A SingleProcess, or the Master of several workers. Raises StartError."""
    workers = supervisor.configs[0].workers
    count = daemon.usable_cpus() if workers == "auto" else workers
    shared = ServiceMemory(supervisor.configs, count, supervisor.listening_sockets.shared)
    if count > 1:
        from gmproxy.process.master import Master

        return Master(supervisor, shared, count, set_up_logs)
    try:
        from gmproxy.process.single_process import SingleProcess  # not earlier: gevent must be imported after the fork
    except ImportError as error:
        raise StartError(f"user {supervisor.configs[0].user or os.getuid()} cannot load the program: {error}") from None
    context = WorkerContext(started_at=time.monotonic(), shared=shared.join())
    context.replicas_off = supervisor.switches.replicas_off()  # the predecessor's, after an upgrade
    return SingleProcess(supervisor, shared, context, set_up_logs)
