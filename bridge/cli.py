"""The `bridge` command: one thin function for each command. What a command needs is imported where it is used, so that
`bridge --help` is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
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
@click.option("--format", "form", type=click.Choice(["text", "json", "github"]), default="text",
              help="text; json (as --json); github: notes beside the lines of a pull request.")
def check(paths: tuple[Path, ...], sandbox: bool, as_json: bool, form: str) -> None:
    """Check templates and accounts: every fault as file:line:col: message.

    PATH is a template, a folder of templates or an accounts file; without one, BRIDGE_TEMPLATES and BRIDGE_ACCOUNTS
    are checked. A template's own tests are run too. Exit code 1 when anything is wrong.

    What is legal and dangerous is a warning with a [name], and no fault; a template says `allow: [name]` where it is
    meant.

    \b
    Examples:
        bridge check
        bridge check templates/es_breakout.yaml
        bridge check accounts.yaml
        bridge check --format github          in a CI job
    """
    from bridge.checking import check_paths
    ctx = click.get_current_context()
    ctx.exit(check_paths(os.environ, paths, sandbox=sandbox, form="json" if as_json else form))


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
@ALERT
@click.option("--now", metavar="TIME", help="Pretend that it is this time, like 2026-11-20T15:30:01Z. Default: now.")
@AS_JSON
def explain(template: str, alert_file: str, now: str | None, as_json: bool) -> None:
    """What an alert would do, in plain words. Nothing is sent.

    At which account, and whether real money can move there; which orders at which prices, and what rests when they fill;
    what would be lost at the stop; how long it is good; or why nothing would be ordered. `bridge render` shows the exact
    calls. Exit code 1 when the alert is at fault.

    \b
    Example:
        bridge explain es_breakout --alert alert.json --now 2026-11-20T15:30:01Z
    """
    from bridge.explain import lines_of
    from bridge.preview import explain_alert
    from bridge.show import print_json, print_line
    said = explain_alert(os.environ, template, _read_input(alert_file), now)
    if as_json:
        print_json(said)
    else:
        for line in lines_of(said):
            print_line(line)
    if said["state"] == "invalid":
        click.get_current_context().exit(EXIT_INPUT)


@main.command()
@click.argument("template")
@click.option("--strategy", "form", flag_value="strategy", help="For the alerts of a strategy: order fills.")
@click.option("--indicator", "form", flag_value="indicator", help="For the alerts of an indicator, a line or a price.")
@click.option("--pine", "form", flag_value="pine", help="Pine code, for a script that calls alert() itself.")
@click.option("--pairs", is_flag=True, help="key=value; pairs in place of JSON.")
@AS_JSON
def message(template: str, form: str | None, pairs: bool, as_json: bool) -> None:
    """What to paste into TradingView's alert message for a template.

    Without an option: for a strategy where the template's fields are those of one, else for an indicator. What there is
    to know about it goes to standard error.

    \b
    Examples:
        bridge message es_breakout
        bridge message es_breakout --indicator
        bridge message es_breakout --pine
    """
    from bridge.preparing import print_message
    print_message(os.environ, template, form or "", pairs=pairs, as_json=as_json)


@main.command()
@click.argument("name", required=False, default="")
@click.option("--account", default="", help="The account of accounts.yaml that trades.")
@click.option("--kind", default="", help="plain, cover, oco, oso, cancel or close.")
@click.option("--form", default="", help="indicator, strategy or text: what the alerts are like.")
@click.option("--stdout", "to_stdout", is_flag=True, help="Print the template, write nothing.")
@AS_JSON
def new(name: str, account: str, kind: str, form: str, to_stdout: bool, as_json: bool) -> None:
    """Write a new template, with its own tests. What is not given is asked.

    The file goes to BRIDGE_TEMPLATES and passes `bridge check`; one that is there is never overwritten.

    \b
    Examples:
        bridge new
        bridge new es_reversal --account tradovate-demo --kind oso --form strategy
    """
    from bridge.new import Given, write_new
    if to_stdout and not name:
        name = "new"
    write_new(os.environ, Given(name=name, account=account, kind=kind, form=form), _ask, to_stdout=to_stdout,
              as_json=as_json)


@main.command()
@click.argument("what", type=click.Choice(["template", "accounts"]))
@click.option("--json", "as_json", is_flag=True, help="For symmetry: the output is always JSON.")
def schema(what: str, as_json: bool) -> None:
    """The JSON Schema of templates or of accounts.yaml, for editors that complete and underline.

    What is shipped in templates/.schema is this; the first line of a template points at it:
    # yaml-language-server: $schema=.schema/template.json

    \b
    Example:
        bridge schema template > templates/.schema/template.json
    """
    from bridge.preparing import print_schema
    del as_json
    print_schema(what)


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


@main.command()
@click.argument("alert_ids", nargs=-1, metavar="[ALERT_ID...]")
@click.option("--csv", "log", metavar="FILE|-", help="An alert log as TradingView exports it. Needs --template.")
@click.option("--template", metavar="NAME", default="",
              help="Judge by this template in place of an alert's own; without ids and --csv: only its alerts.")
@click.option("--since", metavar="TIME", help="Not before this time, like 2026-11-20 or 2026-11-20T15:30:00Z.")
@click.option("--until", metavar="TIME", help="Not after this time.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most this many, the newest.")
@click.option("--all", "everything", is_flag=True, help="All alerts on record.")
@click.option("--now", metavar="TIME", help="Judge as if it were this time. Default: when each alert came.")
@SANDBOX
@click.option("--send", "for_real", is_flag=True, help="Send them for real, through the running receiver. Asks first.")
@click.option("--yes", is_flag=True, help="With --send: do not ask.")
@AS_JSON
def replay(alert_ids: tuple[str, ...], log: str | None, template: str, since: str | None, until: str | None,
           limit: int | None, everything: bool, now: str | None, sandbox: bool, for_real: bool, yes: bool,
           as_json: bool) -> None:
    """Alerts on record, or of TradingView's exported log, through today's templates. Nothing is sent without --send.

    Shows what each alert makes now, and for alerts on record how that differs from what was sent then, request by
    request. Exit code 1 when a row, a template or an alert is at fault.

    \b
    Examples:
        bridge replay a3f2a9c0d1e4b5a6978c0
        bridge replay --since 2026-11-16 --template es_breakout
        bridge replay --csv TradingView_Alerts_Log.csv --template es_breakout
        bridge replay a3f2a9c0d1e4b5a6978c0 --send       again, for real, if it is not too old
    """
    from bridge.replay import Selection
    from bridge.replaying import replay_dry, replay_for_real
    if log is not None and alert_ids:
        raise click.UsageError("either alert ids or --csv")
    if not (alert_ids or log is not None or everything or since or until or limit):
        raise click.UsageError("which alerts? ALERT_ID…, --csv FILE, or --since, --until, --limit, --all")
    if for_real and now is not None:
        raise click.UsageError("--send goes by the present time: without --now")
    if for_real and not yes and not sys.stdin.isatty():
        raise click.UsageError("--send asks before it sends, and there is no terminal to ask at: add --yes")
    chosen = Selection(ids=alert_ids, csv=None if log is None else _read_input(log), file=log or "", template=template,
                       since=since, until=until, limit=limit, now=now, sandbox=sandbox)
    run = replay_for_real if for_real else replay_dry
    click.get_current_context().exit(run(os.environ, chosen, as_json=as_json, ask=not yes))


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


def _ask(question: str, choices: Sequence[str], default: str) -> str:
    """A person's answer; questions go to standard error, so that what is printed can be piped."""
    kind = click.Choice(list(choices)) if choices else click.STRING
    return str(click.prompt(question, default=default, type=kind, err=True))


def _read_input(file: str) -> bytes:
    """The bytes of a file, or of standard input for `-`. Raises InputError that names the file."""
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from None
