"""Short runs, each aimed at one safeguard: what has to go wrong, at which moment, for that safeguard alone to matter."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak import desk
from tests.soak.book import Sent
from tests.soak.judge import Verdict, judge
from tests.soak.plan import Planned, planned
from tests.soak.run import SETTINGS, gather, quiet, set_market
from tests.soak.sender import Sender
from tests.soak.site import ROOT, SECRET, Site
from tests.soak.valve import Valve

ACCOUNTS = ("tv", "nt", "pf")
_SLEEPY = {"BRIDGE_CALL_TIMEOUT": "6s", "BRIDGE_LEASE": "30s"}
"""A call may take long and a lease longer, so that a process that slept still holds both."""
_LONG_LEASE_S = 240
"""A worker renews its leases each quarter of this: not within the scenario, for then it would find out by itself."""


@dataclass
class Stage:
    """A running Bridge with a sender, and a number for each alert."""

    site: Site
    sender: Sender
    valve: Valve | None = None
    numbers: int = 0

    def send(self, account: str, kind: str, *, twin_after_s: float | None = None) -> Sent:
        """Begin to send an alert of this kind."""
        self.numbers += 1
        alert: Planned = planned(self.numbers, account, kind, ref=f"r{self.numbers}", accounts=ACCOUNTS,
                                 twin_after_s=twin_after_s)
        return self.sender.send(alert)

    def until(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Wait for it; raises RuntimeError."""
        self.site.until(condition, seconds, what)

    def until_asked(self, operation: str, times: int = 1) -> None:
        """Wait until a request for this operation has reached a broker."""
        self.until(lambda: sum(each["operation"] == operation for each in self.site.control("requests")) >= times, 20,
                   f"a request for {operation}")

    def cut_off_at(self, sees: Callable[[bytes], bool], account: str, kind: str, what: str) -> Valve:
        """Send an alert, and take the ledger away from the part behind the valve at the request that this sees.

        That request does not reach the ledger. Clear `shut` of what is returned to give it back.
        """
        assert self.valve is not None
        self.valve.armed = sees
        self.send(account, kind)
        self.until(self.valve.shut.is_set, 20, what)
        return self.valve

    def settled(self) -> None:
        """Wait until all is answered and quiet."""
        self.sender.wait(60)
        quiet(self.site, 60)


@dataclass(frozen=True)
class Scenario:
    """A scenario: in words what happens, what is played, and how the Bridge is set up for it.

    `valve`: the part that reaches the ledger's server through one; `later`: the part that the play starts itself.
    """

    name: str
    words: str
    play: Callable[[Stage], None]
    workers: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    valve: str = ""
    later: str = ""


def run(scenario: Scenario, folder: Path, code: Path = ROOT) -> Verdict:
    """Play a scenario with the package that is found in `code`. Raises RuntimeError when it cannot be played."""
    desk.write(folder, list(ACCOUNTS))
    site = Site(folder, form="parts", workers=scenario.workers, code=code, settings={**SETTINGS, **scenario.settings})
    if scenario.later:
        site.part(scenario.later).wanted = False
    with _valve_before(site, scenario.valve) as valve, site:
        set_market(site)
        sender = Sender(site.port, SECRET, scale=0.3)
        try:
            stage = Stage(site, sender, valve)
            scenario.play(stage)
            site.rest()
            site.clear_faults()
            stage.settled()
        finally:
            sender.close()
        return judge(gather(site, sender), tolerance_s=1.0)


# -- what is played ----------------------------------------------------------------------------------------------------


def _twins(stage: Stage) -> None:
    for account in ACCOUNTS:
        for after_s in (0.0, 0.03, 0.3):
            stage.send(account, "limit", twin_after_s=after_s)


def _two_owners(stage: Stage) -> None:
    """A worker's record of its submission hangs in the network while the server's clock seems to jump past its lease: a
    second worker takes the lane and sends the order. By its own clock the first still owns it when its record arrives."""
    stage.send("tv", "limit")
    stage.settled()
    second = stage.site.part("worker2")
    second.wanted = True
    second.start()
    valve = stage.cut_off_at(_is_submission, "tv", "limit", "an order is put on record")
    with stage.site.redis() as client:
        client.hset("bridge:{tv}:lease", "until", 0)
    stage.until_asked("placeorder", times=2)
    valve.shut.clear()
    stage.settled()


def _asleep_before_sending(stage: Stage) -> None:
    """The worker has put the order on record, logs in, and is stopped for longer than the send deadline."""
    stage.site.fault("tradovate", "accesstokenrequest", "delay", seconds=1)
    stage.send("tv", "quick")
    stage.until_asked("accesstokenrequest")
    stage.site.stop("worker", 4.5)
    time.sleep(4.5)


def _killed_while_the_broker_answers(stage: Stage) -> None:
    for account, operation in (("tv", "placeorder"), ("pf", "place")):
        stage.site.fault(desk.DESKS[account].broker, operation, "delay", seconds=0.9)
        stage.send(account, "market")
        stage.until_asked(operation)
        stage.site.kill("worker")
        stage.until(lambda: not stage.site.backlog(), 20, "the lane goes on")


def _another_account_behind_the_name(stage: Stage) -> None:
    """While an order is in doubt, somebody changes accounts.yaml: the order's calls are not those on record any more."""
    stage.site.fault("pocketful", "place", "delay", seconds=0.9)
    stage.send("pf", "limit")
    stage.until_asked("place")
    worker = stage.site.part("worker1")
    worker.wanted = False
    stage.site.kill("worker")
    accounts = stage.site.folder / "accounts.yaml"
    accounts.write_text(accounts.read_text().replace("YG1234", "YG5678"))
    worker.wanted = True


def _half_written(stage: Stage) -> None:
    """The receiver dies between the first lane of an alert for three accounts and the next."""
    stage.send("tv", "every")
    stage.settled()
    valve = stage.cut_off_at(lambda data: b"EVAL" in data and b"bridge:{nt}:" in data, "tv", "every",
                             "the alert comes to its second lane")
    stage.site.part("receiver").kill()  # master and child: neither gets to try again
    time.sleep(0.2)
    valve.shut.clear()
    stage.settled()


def _late_ledger(stage: Stage) -> None:
    """The ledger is away right when an order is about to be put on record, until its time is over."""
    stage.send("tv", "limit")
    stage.settled()
    valve = stage.cut_off_at(_is_submission, "tv", "quick", "the order is put on record")
    time.sleep(desk.QUICK_S + 2.0)
    valve.shut.clear()
    stage.settled()


def _is_submission(data: bytes) -> bool:
    """The script that puts an attempt on record: the only one with a record that begins one."""
    return b"EVAL" in data and b'"begin"' in data


@contextlib.contextmanager
def _valve_before(site: Site, name: str) -> Iterator[Valve | None]:
    """Before a part is started: let it reach the ledger's server through a valve. '': no part, no valve."""
    if not name:
        yield None
        return
    valve = Valve(int(site.environ["BRIDGE_REDIS_URL"].rpartition(":")[2]))
    part = site.part(name)
    part.environ = {**part.environ, "BRIDGE_REDIS_URL": f"redis://127.0.0.1:{valve.port}"}
    try:
        yield valve
    finally:
        valve.close()


SCENARIOS = {each.name: each for each in (
    Scenario("twins", "the same alert on two connections, at once and a moment later", _twins),
    Scenario("two owners", "two workers both believe that they own a lane", _two_owners, workers=2, valve="worker1",
             later="worker2", settings={"BRIDGE_CALL_TIMEOUT": "20s", "BRIDGE_LEASE": f"{_LONG_LEASE_S}s"}),
    Scenario("asleep", "a worker is stopped between its record and the first byte", _asleep_before_sending,
             settings=_SLEEPY),
    Scenario("killed", "a worker dies while the broker answers", _killed_while_the_broker_answers),
    Scenario("another account", "accounts.yaml changes while an order is in doubt", _another_account_behind_the_name),
    Scenario("half-written", "a receiver dies between two lanes of one alert", _half_written, valve="receiver"),
    Scenario("late ledger", "the ledger is away at an order's last step, until it is too old", _late_ledger,
             valve="worker1", settings={"BRIDGE_CALL_TIMEOUT": "20s", "BRIDGE_LEASE": "60s"}),
)}
