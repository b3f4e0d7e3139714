"""`bridge replay` at the terminal: what is printed, what is asked, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping

from bridge import replay, resend
from bridge.errors import EXIT_DONE, EXIT_INPUT
from bridge.load import settings_of
from bridge.process import local_url
from bridge.replay import Selection
from bridge.show import ask as ask_person
from bridge.show import print_json, print_line, with_progress

_MANY = 100
"""More alerts than these are for a program: their JSON is not indented."""


def replay_dry(environ: Mapping[str, str], chosen: Selection, *, as_json: bool, ask: bool = False) -> int:
    """Show what the chosen alerts make now; returns the exit code."""
    del ask
    found = replay.replay(environ, chosen, lambda cases: with_progress(cases, "replaying"))
    if as_json:
        print_json(replay.to_json(found), compact=len(found.judged) > _MANY)
    else:
        for line in replay.lines_of(found):
            print_line(line)
    return EXIT_DONE if found.sound else EXIT_INPUT


def replay_for_real(environ: Mapping[str, str], chosen: Selection, *, as_json: bool, ask: bool) -> int:
    """Show what would be sent, ask, and send it; returns the exit code."""
    resender = resend.Resender(environ, chosen)
    plan = resender.plan()
    for line in resend.plan_lines(plan, local_url(settings_of(environ).bind)):
        print_line(line, error=as_json)
    if plan.to_send and (not ask or ask_person(_question(plan))):
        resender.send(plan, lambda cases: with_progress(cases, "sending"))
    if as_json:
        print_json(resend.to_json(plan))
    else:
        for line in resend.sent_lines(plan):
            print_line(line)
    return plan.exit_code


def _question(plan: resend.Plan) -> str:
    real = resend.real_accounts(plan)
    if real:
        return f"REAL MONEY CAN MOVE at {', '.join(real)}. Send?"
    return "Send?"
