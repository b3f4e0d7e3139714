"""`make soak ARGS="…"`: kill a whole Bridge at random and hold it to its promises."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.soak import report
from tests.soak.plan import make_plan
from tests.soak.run import CALL_S, LEASE_S, Line, Outcome, Pace, carry_out

_DESCRIPTION = """\
Sends alerts to a whole Bridge in real processes as TradingView sends them, while its parts die by kill -9, are stopped
for longer than their leases, and the brokers lose requests and replies. Afterwards the sender's book is held against the
ledger and against what the brokers (the sandbox) really saw. All zeros are the promise:

  lost          answered 2xx, but in no named final state and not at the broker
  doubled       more than one order at the broker for one order of one alert
  stale         reached the broker after its max_age
  out of order  an entry passed an earlier one of its lane, or a later close or cancel that covers it
  silent        no named state, no reason, or a state that contradicts the broker
  unknown       not a fault: could not be known; found by a look-up, or told to a person
"""
_EXAMPLES = """\
examples:
  make soak                                            a minute's worth
  make soak ARGS="--alerts 10000 --kills 200 --seed 1" the whole proof, about a quarter of an hour
  make soak ARGS="--accounts 1 --form parts"           one lane; server, receiver and two workers as processes of ours
  make soak ARGS=--mutations                           the proof that it can fail: every safeguard switched off once

Exit code 0: every promise was kept; 1: one was broken (its history is printed); 3: the Bridge could not be run.
"""


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make soak", description=_DESCRIPTION, epilog=_EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alerts", type=int, default=800, metavar="N", help="how many alerts (default: 800)")
    parser.add_argument("--kills", type=int, metavar="K", help="how many kill -9 (default: one in 50 alerts)")
    parser.add_argument("--faults", type=int, metavar="F",
                        help="how many faults of brokers (default: one in 25 alerts, in 60 with one account)")
    parser.add_argument("--seed", type=int, metavar="S", help="decides everything; the same seed gives the same plan")
    parser.add_argument("--accounts", type=int, choices=(1, 3), default=3, help="one lane, or one for each broker")
    parser.add_argument("--form", choices=("up", "parts"), default="up",
                        help="`bridge up` with one more worker, or every part by itself (default: up)")
    parser.add_argument("--rate", type=float, default=25.0, metavar="R", help="alerts per second (default: 25)")
    parser.add_argument("--seconds", type=float, metavar="T", help="send for at most so long")
    parser.add_argument("--scale", type=float, default=0.4, metavar="X",
                        help="TradingView's 3 s and 5 s times this (default: 0.4; 1: as they are)")
    parser.add_argument("--tolerance", type=float, default=1.0, metavar="T",
                        help="seconds that an order may take from the last look at its age to the broker (default: 1)")
    parser.add_argument("--mutations", nargs="*", metavar="NAME", help="switch off safeguards: all, or those named")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the run: logs, data, plan, events")
    parser.add_argument("--json", action="store_true", help="the verdict as JSON on stdout")
    return parser


def main() -> int:
    """Run as the command line says; the exit code."""
    given = arguments().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running
    line = Line()
    if given.mutations is not None:
        from tests.soak.mutations import prove
        return prove(given.mutations, as_json=given.json)
    seed = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    kills = max(1, given.alerts // 50) if given.kills is None else given.kills
    accounts = ("tv",) if given.accounts == 1 else ("tv", "nt", "pf")
    faults = given.alerts // (25 if len(accounts) > 1 else 60) if given.faults is None else given.faults
    plan = make_plan(seed, given.alerts, kills, faults, accounts, lease_s=LEASE_S, call_s=CALL_S)
    folder = Path(tempfile.mkdtemp(prefix="bridge-soak-"))
    command = (f'make soak ARGS="--alerts {given.alerts} --kills {kills} --faults {faults} --seed {seed} '
               f'--accounts {given.accounts} --form {given.form} --rate {given.rate:g} --scale {given.scale:g}"')
    keep = given.keep
    try:
        outcome = carry_out(plan, folder, form=given.form, pace=Pace(given.rate, given.seconds, given.scale),
                            tolerance_s=given.tolerance, progress=line)
        keep = keep or not outcome.verdict.clean
        _write(outcome, folder)
    except RuntimeError as error:
        keep = True
        print(f"\nthe Bridge could not be run (seed {seed}): {error}", file=sys.stderr)
        return 3
    finally:
        line("")
        if keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    _tell(outcome, command, seed, as_json=given.json)
    return 0 if outcome.verdict.clean else 1


def _tell(outcome: Outcome, command: str, seed: int, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"seed": seed, "command": command, "seconds": round(outcome.seconds, 1),
                          **outcome.verdict.to_json()}, indent=1))
    else:
        print(report.table(outcome.verdict))
        print(f"{report.states(outcome.verdict)}; {outcome.seconds:.0f} s, seed {seed}")
    if not outcome.verdict.clean:
        print(f"\nseed {seed}; again: {command}\n\n{report.failure(outcome)}", file=sys.stderr)


def _write(outcome: Outcome, folder: Path) -> None:
    """What was compared, for whoever looks into the kept folder."""
    records = outcome.records
    for name, found in (("book", [sent.to_json() for sent in records.book]), ("orders", records.orders),
                        ("alerts", records.alerts), ("witness", records.rows), ("events", outcome.events),
                        ("requests", outcome.requests), ("waiting", sorted(records.waiting)),
                        ("findings", [asdict(each) for each in outcome.verdict.findings])):
        (folder / f"{name}.json").write_text(json.dumps(found, default=str, indent=1))


if __name__ == "__main__":
    sys.exit(main())
