"""One run: the plan carried out, the lanes waited for, and everything that is to be compared gathered."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.soak import desk
from tests.soak.judge import Records, Verdict, judge, strangers
from tests.soak.plan import Blow, Plan
from tests.soak.sender import Sender
from tests.soak.site import ROOT, SECRET, Site

LEASE_S, CALL_S = 3, 1
SETTINGS = {"BRIDGE_LEASE": f"{LEASE_S}s", "BRIDGE_CALL_TIMEOUT": f"{CALL_S}s", "BRIDGE_LOOKUP_PATIENCE": "1s",
            "BRIDGE_STEP_PATIENCE": "4s", "BRIDGE_SETTLE": "300ms", "BRIDGE_SHUTDOWN_TIMEOUT": "3s"}
"""Short, so that a run is: what takes 20 s in real life takes 3."""
_MOST_WAITING = 150
"""So many orders in lanes make the sender wait: otherwise a slow machine would only ever see orders expire."""
_SETTLE_S = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run that has ended: what it was judged by, and the verdict."""

    verdict: Verdict
    records: Records
    requests: list[dict[str, Any]]
    events: list[dict[str, Any]]
    histories: list[dict[str, Any]]
    """`bridge show` of the orders of the first findings."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast alerts come, for how long at most, and how much TradingView's own times are shortened."""

    rate: float = 25.0
    seconds: float | None = None
    scale: float = 0.4


Progress = Callable[[str], None]


def carry_out(plan: Plan, folder: Path, *, form: str, pace: Pace, tolerance_s: float, progress: Progress,
              code: Path = ROOT) -> Outcome:
    """Run a plan in this folder. Raises RuntimeError when the Bridge does not start or its ledger cannot be read."""
    began = time.monotonic()
    desk.write(folder, list(plan.accounts), transport=plan.transport)
    (folder / "plan.json").write_text(json.dumps(plan.to_json(), default=str, indent=1))
    with Site(folder, form=form, code=code, settings=SETTINGS) as site:
        set_market(site)
        sender = Sender(site.port, SECRET, scale=pace.scale)
        try:
            _send_all(plan, site, sender, pace, progress)
            progress("waiting until every alert is answered and every lane is quiet")
            site.rest()
            site.clear_faults()
            sender.wait(120)
            quiet(site)
        finally:
            sender.close()
        progress("comparing")
        records = gather(site, sender)
        verdict = judge(records, tolerance_s=tolerance_s)
        requests = site.control("requests") if verdict.findings else []
        ids = dict.fromkeys(each for finding in verdict.findings[:5] for each in finding.orders[:3])
        histories = [found for each in ids if (found := _show(site, each)) is not None]
        events = [{"at": each.at, "words": each.words} for each in site.events]
    return Outcome(verdict, records, requests, events, histories, time.monotonic() - began)


def set_market(site: Site) -> None:
    """A last price for everything that is traded."""
    for symbol, price in desk.MARKET.items():
        site.control("price", symbol=symbol, price=price)


def _send_all(plan: Plan, site: Site, sender: Sender, pace: Pace, progress: Progress) -> None:
    began, blows, total = time.monotonic(), list(plan.blows), len(plan.alerts)
    next_at = began
    done = 0
    for done, planned in enumerate(plan.alerts, start=1):
        while blows and blows[0].before <= done:
            _strike(site, blows.pop(0))
        if done % 10 == 0:
            _wait_for_room(site, sender)
            spent = time.monotonic() - began
            left = spent / done * (total - done) if pace.seconds is None else pace.seconds - spent
            progress(f"{done} of {total} alerts, {done / spent:.0f}/s, {len(plan.blows) - len(blows)} blows, "
                     f"{max(0, left):.0f} s to go")
        next_at = max(next_at + 1 / pace.rate, time.monotonic() - 0.5)
        if (pause := next_at - time.monotonic()) > 0:
            time.sleep(pause)
        if pace.seconds is not None and time.monotonic() - began > pace.seconds:
            break
        sender.send(planned)
    site.note(f"{done} alerts sent")


def _strike(site: Site, blow: Blow) -> None:
    time.sleep(blow.delay_s)
    if blow.deed == "kill":
        site.kill(blow.target, blow.pick)
    elif blow.deed == "stop":
        site.stop(blow.target, blow.seconds, blow.pick)
    else:
        site.fault(**blow.fault)


def _wait_for_room(site: Site, sender: Sender) -> None:
    """Until lanes and senders are not overrun; at most 30 s, for waiting too long is tested too."""
    ends_at = time.monotonic() + 30
    while (site.backlog() > _MOST_WAITING or sender.busy() > 40) and time.monotonic() < ends_at:
        time.sleep(0.1)


def quiet(site: Site, seconds: float = _SETTLE_S) -> bool:
    """Wait until no order stands in a lane and none is being sent or looked up; whether that came in time."""
    ends_at, still = time.monotonic() + seconds, 0
    while time.monotonic() < ends_at:
        still = still + 1 if site.ready_quietly() and site.backlog() == 0 else 0
        if still >= 10:
            time.sleep(1.0)  # look-ups off the lane
            if not any(order["state"] in ("queued", "submitting") for order in site.bridge("orders", "--all")):
                return True
            still = 0
        time.sleep(0.1)
    return False


def gather(site: Site, sender: Sender) -> Records:
    """Everything that is compared."""
    orders = site.bridge("orders", "--all")
    waiting = frozenset(str(order["id"]) for order in site.bridge("orders", "--waiting", "--all"))
    records = Records(list(sender.book), orders, site.bridge("alerts", "--all"), waiting, site.control("orders"))
    lost = {str(row["client_order_id"]) for row in strangers(records)}
    if not lost:
        return records
    return replace(records, also_named=_earlier_names(site, orders, lost))


def _earlier_names(site: Site, orders: list[dict[str, Any]], wanted: set[str]) -> dict[str, str]:
    """Client ids of earlier attempts, from the calls of orders that were sent more than once."""
    found: dict[str, str] = {}
    several = [order for order in orders
               if sum(moment["state"] == "submitting" for moment in order["history"]) > 1]
    for order in several[:200]:
        shown = _show(site, str(order["id"])) or {}
        for call in shown.get("calls", ()):
            body = call.get("body")
            name = str(body.get("user_order_id", "")) if isinstance(body, dict) else ""
            if name in wanted:
                found[name] = str(order["id"])
    return found


def _show(site: Site, order: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = site.bridge("show", order)
    except RuntimeError:  # it is not in the ledger: the finding says so
        return None
    return found


def say_nothing(words: str) -> None:
    """Progress for tests."""


class Line:
    """Progress on one line of stderr; where that is no terminal, a line every 30 s."""

    def __init__(self) -> None:
        self._said_at = time.monotonic()

    def __call__(self, words: str) -> None:
        """Say it in place of what was said before."""
        if sys.stderr.isatty():
            print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)
        elif words and time.monotonic() - self._said_at > 30:
            self._said_at = time.monotonic()
            print(words, file=sys.stderr, flush=True)
