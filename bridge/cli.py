"""The `bridge` command: one thin function for each command. What a command needs is imported where it is used, so that
`bridge --help` is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge import __version__
from bridge.errors import EXIT_INPUT, EXIT_SERVICE, BridgeError, InputError

if TYPE_CHECKING:
    from bridge.ledger import Ledger

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
READY_FD = click.option("--ready-fd", type=int, hidden=True, help="Where to say that it is ready (for `bridge up`).")
SANDBOX = click.option("--sandbox", is_flag=True,
                       help="Every account points at the sandbox; missing credentials are the sandbox's.")
ALERT = click.option("--alert", "alert_file", metavar="FILE|-", required=True,
                     help="File with the alert's body as it is sent; - reads standard input.")


class _Group(click.Group):
    """Prints what went wrong in words, without a traceback, and ends with its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BridgeError as error:
            from bridge.show import print_line
            for line in str(error).splitlines():
                print_line(line, error=True)
            ctx.exit(error.exit_code)
        except BrokenPipeError:
            sys.stderr.close()
            ctx.exit(0)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="bridge")
def main() -> None:
    """Turn webhook alerts into orders at your brokers: once, in time, and never silently.

    \b
    Try it without any account (paper brokers on this machine):
        bridge up --sandbox
    Check what you wrote, and see what an alert would do, before any money moves:
        bridge check
        bridge render es_breakout --alert alert.json

    Settings come from the environment (`bridge config` lists them all).
    Exit codes: 0 done, 1 the input is at fault, 2 wrong usage, 3 a service could not be reached.
    """


# -- running ---------------------------------------------------------------------------------------------------------


@main.command()
@SANDBOX
@AS_JSON
def up(sandbox: bool, as_json: bool) -> None:
    """Run everything on this machine until Ctrl-C.

    Starts the embedded server, the worker and the receiver (and with --sandbox paper brokers), prints the webhook URL
    of each template, and starts again what dies. After a crash the next `bridge up` goes on where this one stood.

    \b
    Example:
        bridge up --sandbox
    """
    from bridge.up import run_everything
    run_everything(os.environ, sandbox=sandbox, as_json=as_json)


@main.command()
@READY_FD
@click.option("--credentials", is_flag=True, hidden=True, help="The worker's credentials are those of this environment.")
def receiver(ready_fd: int | None, credentials: bool) -> None:
    """Run the webhook receiver alone.

    For deployments where each part runs by itself, against the Redis of BRIDGE_REDIS_URL (or a running `bridge up`).

    \b
    Example:
        BRIDGE_SECRET=… BRIDGE_REDIS_URL=redis://redis:6379/0 BRIDGE_BIND=0.0.0.0:8080 bridge receiver
    """
    from bridge.parts import run_receiver
    run_receiver(os.environ, ready_fd, credentials=credentials)


@main.command()
@READY_FD
def worker(ready_fd: int | None) -> None:
    """Run a worker alone: it submits queued orders and follows them.

    Several workers share the lanes of all accounts between them.

    \b
    Example:
        BRIDGE_REDIS_URL=redis://redis:6379/0 bridge worker
    """
    from bridge.parts import run_worker
    run_worker(os.environ, ready_fd)


@main.command()
@READY_FD
def sandbox(ready_fd: int | None) -> None:
    """Run the paper brokers alone, on BRIDGE_SANDBOX_BIND.

    \b
    Example, and what really reached it:
        bridge sandbox
        curl http://127.0.0.1:8082/_control/orders
    """
    from bridge.parts import run_sandbox
    run_sandbox(os.environ, ready_fd)


# -- checking and trying ---------------------------------------------------------------------------------------------


@main.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@SANDBOX
@AS_JSON
def check(paths: tuple[Path, ...], sandbox: bool, as_json: bool) -> None:
    """Check templates and accounts: every fault as file:line:col: message.

    PATH is a template, a folder of templates or an accounts file; without one, BRIDGE_TEMPLATES and BRIDGE_ACCOUNTS
    are checked. A template's own tests are run too. Exit code 1 when anything is wrong.

    \b
    Examples:
        bridge check
        bridge check templates/es_breakout.yaml
        bridge check accounts.yaml
    """
    from bridge.checking import check_paths
    ctx = click.get_current_context()
    ctx.exit(check_paths(os.environ, paths, sandbox=sandbox, as_json=as_json))


@main.command()
@click.argument("files", nargs=-1, metavar="[FILE...|-]")
@click.option("--json", "as_json", is_flag=True, help="For symmetry: the output is always JSON.")
def parse(files: tuple[str, ...], as_json: bool) -> None:
    """How bodies are read: as JSON, key=value; pairs, text, or invalid and why.

    Prints a JSON list with one entry per file. Exit code 1 when one of them is invalid.

    \b
    Examples:
        bridge parse alert.json
        echo 'ticker=ES1!; action=buy' | bridge parse -
    """
    from bridge.alert import read_body
    from bridge.errors import BodyError
    from bridge.show import print_json
    del as_json
    found: list[dict[str, Any]] = []
    for file in files or ("-",):
        try:
            found.append(read_body(_read_input(file)).to_json())
        except BodyError as error:
            found.append({"form": "invalid", "error": str(error)})
    print_json(found)
    if any(each["form"] == "invalid" for each in found):
        click.get_current_context().exit(EXIT_INPUT)


@main.command()
@click.argument("template")
@ALERT
@click.option("--now", metavar="TIME", help="Pretend that it is this time, like 2026-11-20T15:30:01Z. Default: now.")
@AS_JSON
def render(template: str, alert_file: str, now: str | None, as_json: bool) -> None:
    """The orders that an alert makes, and the exact calls to the broker. Nothing is sent.

    TEMPLATE is a name in BRIDGE_TEMPLATES or a path. Needs no network, no Redis and no credentials; what only the
    broker can give is shown as <from: …>.

    \b
    Example:
        bridge render es_breakout --alert alert.json --now 2026-11-20T15:30:01Z
    """
    from bridge.preview import render_alert
    from bridge.show import print_json, print_rendered
    rendered = render_alert(os.environ, template, _read_input(alert_file), now)
    if as_json:
        print_json(rendered)
    else:
        print_rendered(rendered)


@main.command()
@click.argument("template")
@AS_JSON
def message(template: str, as_json: bool) -> None:
    """What to paste into TradingView's alert message for a template.

    \b
    Example:
        bridge message es_breakout
    """
    from bridge.load import load_named, settings_of
    from bridge.show import print_json
    text = load_named(settings_of(os.environ), os.environ, template)[0].message()
    if as_json:
        print_json({"template": template, "message": text})
    else:
        click.echo(text)


@main.command()
@click.argument("template")
@ALERT
@AS_JSON
def send(template: str, alert_file: str, as_json: bool) -> None:
    """Post an alert to the running bridge and print its answer.

    The receiver is looked for at BRIDGE_BIND; the secret is BRIDGE_SECRET, or the one that `bridge up` keeps.
    Exit code 1 when it was refused, 3 when nothing answers.

    \b
    Example:
        bridge send es_breakout --alert alert.json
    """
    from bridge.sending import send_alert
    from bridge.show import print_json, print_line
    status, answer = send_alert(os.environ, template, _read_input(alert_file))
    if not as_json:
        print_line(f"HTTP {status}")
    print_json(answer)
    if status >= 400:
        click.get_current_context().exit(EXIT_SERVICE if status >= 500 else EXIT_INPUT)


# -- what happened ---------------------------------------------------------------------------------------------------


def _limits(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option("--all", "everything", is_flag=True, help="All that are kept.")(command)
    return click.option("--limit", default=100, show_default=True, type=click.IntRange(1), metavar="N",
                        help="At most this many, newest first.")(command)


@main.command()
@click.option("--waiting", is_flag=True, help="Only those that wait for a person.")
@_limits
@AS_JSON
def orders(waiting: bool, limit: int, everything: bool, as_json: bool) -> None:
    """The orders and their states, newest first.

    \b
    Examples:
        bridge orders
        bridge orders --waiting          what waits for a person
    """
    from bridge.show import print_json, print_orders
    with _ledger() as ledger:
        found = ledger.orders(limit=None if everything else limit, waiting=waiting)
    if as_json:
        print_json(found)
    else:
        print_orders(found, waiting=waiting)


@main.command()
@click.argument("order_id", metavar="ID")
@AS_JSON
def show(order_id: str, as_json: bool) -> None:
    """Everything about one order: its history, its legs, each call to the broker and the reply.

    \b
    Example:
        bridge show o3f2a9c0d1e4b5a6978c0
    """
    from bridge.show import print_json, print_order
    with _ledger() as ledger:
        found = ledger.order(order_id)
    if found is None:
        raise InputError(f"there is no order {order_id!r}; `bridge orders` lists them")
    if as_json:
        print_json(found)
    else:
        print_order(found)


@main.command()
@click.argument("order_id", metavar="ID")
@click.option("--as", "verdict", required=True, type=click.Choice(["accepted", "rejected", "seen"]),
              help="What you saw at the broker; `seen` ticks off an alarm of an order whose state is certain.")
@AS_JSON
def resolve(order_id: str, verdict: str, as_json: bool) -> None:
    """Say what became of an order that waits for a person.

    Look at your broker first, by symbol, side, quantity and time: an order that is `unknown` may stand there or not.
    Resolved as accepted it counts as open, and a cancel or close that covered it meanwhile is carried out once more.

    \b
    Examples:
        bridge orders --waiting
        bridge resolve o3f2a9c0d1e4b5a6978c0 --as rejected     it is not there
    """
    from bridge.resolving import resolve as decide
    from bridge.show import print_json, print_line
    with _ledger() as ledger:
        said = decide(ledger, order_id, verdict)
    if as_json:
        print_json(said)
        return
    print_line(f"{order_id} is {said['state']}")
    if said["then"]:
        print_line(said["then"])


@main.command()
@_limits
@AS_JSON
def alerts(limit: int, everything: bool, as_json: bool) -> None:
    """The alerts that came in and what became of them, newest first.

    \b
    Example:
        bridge alerts --limit 10
    """
    from bridge.show import print_alerts, print_json
    with _ledger() as ledger:
        found = ledger.alerts(limit=None if everything else limit)
    if as_json:
        print_json(found)
    else:
        print_alerts(found)


@main.command()
@SANDBOX
@AS_JSON
def config(sandbox: bool, as_json: bool) -> None:
    """Every setting with its value and where it comes from, and every account; secrets masked.

    \b
    Example:
        BRIDGE_BIND=0.0.0.0:80 bridge config
    """
    from bridge.configuration import describe, print_configuration
    from bridge.show import print_json
    found = describe(os.environ, sandbox=sandbox)
    if as_json:
        print_json(found)
    else:
        print_configuration(found)


@main.command()
@AS_JSON
def doctor(as_json: bool) -> None:
    """Is this installation sound, and what would an accepted alert survive?

    Looks at the Redis or Valkey server, the lanes, the templates and the accounts, and changes nothing. One line for
    each check: ok, warn or fault, and what to do. Exit code 1 when something is at fault, 3 when the server cannot be
    reached.

    \b
    Example:
        bridge doctor
    """
    from bridge.doctor import run_doctor
    click.get_current_context().exit(run_doctor(os.environ, as_json=as_json))


# -- helpers ---------------------------------------------------------------------------------------------------------


@contextmanager
def _ledger() -> Iterator[Ledger]:
    """The running bridge's ledger for the time of a command."""
    from bridge.embedded import find
    from bridge.ledger import Ledger
    from bridge.load import settings_of
    settings = settings_of(os.environ)
    ledger = Ledger(find(settings), retention_ms=settings.retention, copies=settings.replicas)
    try:
        yield ledger
    finally:
        ledger.close()


def _read_input(file: str) -> bytes:
    """The bytes of a file, or of standard input for `-`. Raises InputError that names the file."""
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from None
