"""The parts that run by themselves: receiver, worker, sandbox. Each follows its supervisor when it has one."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.errors import FileFaults, ServiceError, SettingsError
from bridge.load import judge_for, load_accounts_of, settings_of, with_stored_secret
from bridge.log import get_logger, set_up
from bridge.process import follow_parent, free_bind, say_ready, share_metrics, split_bind, stop_on_signals
from bridge.settings import Settings

_log = get_logger("bridge.parts")


def begin(settings: Settings) -> None:
    """Set the log up, and tell of names in the environment that look like settings and are none."""
    set_up(settings.log_format, settings.log_level)
    for name in settings.unknown:
        _log.warning("not a setting of Bridge, so it changes nothing (`bridge config` lists them all)", name=name)


def run_receiver(environ: Mapping[str, str], ready_fd: int | None, *, credentials: bool = False) -> None:
    """Receive alerts until SIGTERM. Raises SettingsError without a secret or when the address is taken.

    A receiver needs no broker credentials, so by default it does not miss them. With `credentials` they are those of the
    worker too: the templates of an account that lacks them are refused, for its orders could not be sent.
    """
    follow_parent(environ)
    settings = settings_of(environ)
    begin(settings)
    if not settings.secret:
        raise SettingsError("BRIDGE_SECRET is not set: without it anybody could send orders. Set it to at least 16 "
                            "random characters (`bridge up` makes one and keeps it)")
    free_bind("BRIDGE_BIND", settings.bind)
    share_metrics(settings.receiver_workers)
    from bridge.embedded import find
    from bridge.gunicorn_app import Server
    from bridge.ledger import Ledger
    from bridge.masters import Keeper, cache_in, urls_of
    from bridge.receiver import Receiver
    from bridge.reload import AccountsFile, Reloader
    from bridge.shelf import Shelf
    accounts_file = AccountsFile(settings.accounts)
    accounts = load_accounts_of(settings, environ, lenient=not credentials)
    for fault in accounts.faults:
        _log.error("an account cannot be used", fault=str(fault))
    ledger = Ledger(find(settings), retention_ms=settings.retention, copies=settings.replicas)
    shelf = Shelf()
    reloader = Reloader(settings.templates, accounts_file, judge_for(accounts, environ), shelf)
    keeper = Keeper(cache_in(settings.data), urls_of(accounts))
    receiver = Receiver(settings, reloader.begin(), ledger, lambda: keeper.masters)

    def begin_process() -> None:
        reloader.follow(receiver.serve)
        keeper.begin()

    Server(settings, receiver, ready_fd, begin=begin_process, end=shelf.remove).run()


def run_worker(environ: Mapping[str, str], ready_fd: int | None) -> None:
    """Submit orders until SIGTERM. Raises FileFaults when no account can be used."""
    follow_parent(environ)
    stop = stop_on_signals()
    settings = with_stored_secret(settings_of(environ))
    begin(settings)
    from bridge.brokers import BROKERS
    from bridge.embedded import find
    from bridge.ledger import Ledger
    from bridge.worker import Worker
    found = load_accounts_of(settings, environ, lenient=False)
    for fault in found.faults:
        _log.error("an account cannot be used", fault=str(fault))
    if not found.accounts:
        raise FileFaults(found.faults)
    ledger = Ledger(find(settings), retention_ms=settings.retention, copies=settings.replicas)
    worker = Worker(settings, found.accounts, BROKERS, ledger)
    say_ready(ready_fd)
    worker.run(stop)
    ledger.close()


def run_sandbox(environ: Mapping[str, str], ready_fd: int | None) -> None:
    """Serve the paper brokers until SIGTERM. Raises SettingsError when the address is taken."""
    follow_parent(environ)
    settings = settings_of(environ)
    set_up(settings.log_format, settings.log_level)
    bind = free_bind("BRIDGE_SANDBOX_BIND", settings.sandbox_bind)
    host, port = split_bind(bind)
    from bridge.sandbox import serve

    def ready(taken: int) -> None:
        _log.info("the sandbox is ready", url=f"http://{host}:{taken}")
        say_ready(ready_fd)

    try:
        serve(host, port, ready=ready)
    except OSError as error:
        raise ServiceError(f"BRIDGE_SANDBOX_BIND: {bind} cannot be used: {error.strerror or error}") from None
