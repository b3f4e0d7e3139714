"""The proof that the soak can fail: each safeguard is switched off once, in a copy, and has to be missed.

A mutation replaces a little text of the package. Where that text is no longer found, this fails loudly: whoever changed
the safeguard has to say here how it is switched off now.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.soak.judge import COLUMNS, Verdict
from tests.soak.scenarios import SCENARIOS, run
from tests.soak.site import ROOT


@dataclass(frozen=True, slots=True)
class Mutation:
    """One safeguard switched off: in `file`, `old` becomes `new`; the scenario then has findings in `column`."""

    name: str
    file: str
    old: str
    new: str
    scenario: str
    column: str


MUTATIONS = (
    Mutation("dedupe in the script", "bridge/lua/enqueue.lua",
             "  if told == '' then\n", "  if false then\n", "twins", "doubled"),
    Mutation("fencing", "bridge/lua/_lane.lua",
             "  return kept[1] == owner and kept[2] == fence\n", "  return true\n", "two owners", "doubled"),
    Mutation("send deadline", "bridge/attempt.py",
             "            if monotonic() > run.send_ends_at:\n", "            if False:\n", "asleep", "stale"),
    Mutation("submitting before send", "bridge/attempt.py",
             "            if call.write and (late := self._put_on_record(own, run, call, work)):\n",
             "            run.send_ends_at, late = monotonic() + 1, None\n            if late:\n", "killed", "doubled"),
    Mutation("look-up before resend", "bridge/lane.py",
             '        if stored.state in ("submitting", "unknown"):\n            return self._clear_up(own, stored)\n',
             '        if stored.state in ("submitting", "unknown"):\n'
             '            self._settle(own, stored, "retry", "sent again", done=False)\n            return 0.0\n',
             "killed", "doubled"),
    Mutation("playback's digest check", "bridge/lane.py",
             "            if not isinstance(asked, Call) or asked.digest() != last.digest:\n",
             "            if not isinstance(asked, Call):\n", "another account", "doubled"),
    Mutation("completion of half-written alerts", "bridge/ledger/intake.py",
             "        check_alert(alert, found)\n        try:\n            rest",
             "        return\n        try:\n            rest", "half-written", "lost"),
    Mutation("expiry at the last moment", "bridge/lua/submit.lua",
             "if ARGV[9] == '1' then\n", "if false then\n", "late ledger", "stale"),
)


def switched_off(mutation: Mutation) -> str:
    """The text of its file with the safeguard switched off. Raises RuntimeError when it is not where it was."""
    text = (ROOT / mutation.file).read_text()
    if text.count(mutation.old) != 1:
        raise RuntimeError(f"the safeguard {mutation.name!r} is not where tests/soak/mutations.py says: "
                           f"{mutation.file} has {text.count(mutation.old)} times\n{mutation.old}")
    return text.replace(mutation.old, mutation.new)


def mutated(mutation: Mutation, folder: Path) -> Path:
    """A copy of the package with the safeguard switched off. Raises RuntimeError when it is not where it was."""
    text = switched_off(mutation)
    shutil.copytree(ROOT / "bridge", folder / "bridge", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / mutation.file).write_text(text)
    return folder


def chosen(names: Sequence[str]) -> list[Mutation]:
    """The mutations whose name holds one of these words; all without any. Raises RuntimeError for an unknown word."""
    found = [each for each in MUTATIONS if not names or any(name in each.name for name in names)]
    if unknown := [name for name in names if not any(name in each.name for each in MUTATIONS)]:
        raise RuntimeError(f"no safeguard's name has {', '.join(unknown)}; there are: "
                           f"{', '.join(each.name for each in MUTATIONS)}")
    return found


def prove(names: Sequence[str], *, as_json: bool) -> int:
    """Play each scenario with the safeguards on (all zeros) and with each one off (caught); the exit code."""
    rows: list[dict[str, Any]] = []
    try:
        mutations = chosen(names)
        for name in dict.fromkeys(each.scenario for each in mutations):
            rows.append(_play(f"all on: {SCENARIOS[name].words}", name, None))
        rows += [_play(f"off: {each.name}", each.scenario, each) for each in mutations]
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 3
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        print(f"{sum(row['as_it_should'] for row in rows)} of {len(rows)} as they should be")
    return 0 if all(row["as_it_should"] for row in rows) else 1


def _play(title: str, scenario: str, mutation: Mutation | None) -> dict[str, Any]:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bridge-mutation-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        code = mutated(mutation, folder / "code") if mutation else ROOT
        (folder / "run").mkdir()
        verdict = run(SCENARIOS[scenario], folder / "run", code)
    good = verdict.count(mutation.column) > 0 if mutation else verdict.clean
    counts = {column: verdict.count(column) for column in COLUMNS if verdict.count(column)}
    words = ("caught" if mutation else "clean") if good else ("NOT CAUGHT" if mutation else "NOT CLEAN")
    seconds = time.monotonic() - began
    print(f"{words:<10}  {title:<73}  {_in_words(counts)}  {seconds:.0f} s", file=sys.stderr)
    if not good:
        _explain(verdict)
    return {"what": title, "scenario": scenario, "as_it_should": good, "counts": counts,
            "expected": mutation.column if mutation else "", "seconds": round(seconds, 1)}


def _in_words(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {column}" for column, count in counts.items()) or "all zeros"


def _explain(verdict: Verdict) -> None:
    print(f"    orders: {dict(verdict.states)}", file=sys.stderr)
    for finding in verdict.findings[:5]:
        print(f"    {finding.column}: {finding.words}", file=sys.stderr)
