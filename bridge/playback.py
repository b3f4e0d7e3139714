"""Play the recorded calls and replies of an attempt back into a fresh plan, which then stands where the last one stood.

Pure. What is played back are the writes with their replies and the reads before the last write; reads after it are
asked afresh, from the first one on. So when the first read after a write is on record again, what was read before it is
not played back: a worker that died, or lost its lane, had read that. (A plan that asks one read again and again before
its next write must go by the last answer alone.) Each call that the plan makes must equal the recorded one: playing back never guesses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.call import Call, Outcome, Pause, Plan, Reply, Seen
from bridge.views import read_record


class Diverged(Exception):
    """The plan does not ask what is on record: what was done cannot be told from the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A recorded call with the reply that reached the plan; None: none did. `held`: its last sending certainly did
    nothing."""

    digest: str
    step: str
    write: bool
    reply: Reply | None = None
    held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is on record of an order's last attempt: what its plan was given, and its exchanges in order."""

    number: int
    given: Mapping[str, Any]
    exchanges: tuple[Exchange, ...]

    @property
    def last_write(self) -> int:
        """The position of the last write, -1 when there is none."""
        return max((at for at, each in enumerate(self.exchanges) if each.write), default=-1)

    def writes_before(self, at: int) -> bool:
        """Whether an earlier write was answered, so that something of the order may stand."""
        return any(each.write and each.reply is not None for each in self.exchanges[:at])


def last_attempt(records: Sequence[str]) -> Attempt | None:
    """The last attempt in an order's records; None when nothing was begun. Raises DamagedRecord."""
    number, given = 0, None
    exchanges: list[Exchange] = []
    for text in records:
        record = read_record(text)
        if record.get("look"):
            continue
        if "begin" in record:
            number, given, exchanges = int(record["begin"]["attempt"]), record["begin"], []
        elif "call" in record:
            call = record["call"]
            new = Exchange(digest=record["digest"], step=call["step"], write=bool(call["write"]))
            if exchanges and exchanges[-1].digest == new.digest and exchanges[-1].reply is None:
                exchanges.pop()  # the same call again, after one that was not executed
            if not new.write:
                _drop_older_reads(exchanges, new)
            exchanges.append(new)
        elif exchanges and exchanges[-1].digest == record["digest"]:
            exchanges[-1] = _answered(exchanges[-1], record["reply"])
    return Attempt(number=number, given=given, exchanges=tuple(exchanges)) if given is not None else None


def _drop_older_reads(exchanges: list[Exchange], read: Exchange) -> None:
    """Drop the reads since the last write when this one is the first of them again."""
    first = max((at for at, each in enumerate(exchanges) if each.write), default=-1) + 1
    if exchanges[first:] and exchanges[first].digest == read.digest:
        del exchanges[first:]


def _answered(exchange: Exchange, reply: Mapping[str, Any]) -> Exchange:
    held = bool(reply.get("held"))
    seen = reply.get("seen")
    heard = None if held else Reply(status=None if reply["status"] is None else int(reply["status"]), text=reply["text"],
                                    headers=dict(reply.get("headers") or {}), fault=reply["fault"],
                                    not_executed=bool(reply.get("not_executed")),
                                    seen=Seen(**{**seen, "legs": tuple(seen["legs"])}) if seen else None)
    return Exchange(digest=exchange.digest, step=exchange.step, write=exchange.write, reply=heard, held=held)


def play_back(plan: Plan, exchanges: Sequence[Exchange]) -> Call | Pause | Outcome:
    """What the plan asks next when it has heard all of these. Raises Diverged."""
    asked = following(plan, None)
    for exchange in exchanges:
        while isinstance(asked, Pause):
            asked = following(plan, None)
        if not isinstance(asked, Call) or asked.digest() != exchange.digest:
            raise Diverged(f"played back, the plan does not make the call on record for the step {exchange.step!r}")
        if exchange.reply is None:
            raise Diverged(f"the step {exchange.step!r} has no reply on record")
        asked = following(plan, exchange.reply)
    return asked


def past_pauses(plan: Plan, asked: Call | Pause | Outcome) -> Call | Outcome:
    """The next call, or the outcome: playing back does not wait."""
    while isinstance(asked, Pause):
        asked = following(plan, None)
    return asked


def following(plan: Plan, answer: Reply | None) -> Call | Pause | Outcome:
    """What a plan asks for next, or what it came to."""
    try:
        asked: Call | Pause = plan.send(answer)
        return asked
    except StopIteration as done:
        outcome: Outcome = done.value
        return outcome
