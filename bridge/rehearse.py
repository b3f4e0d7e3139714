"""Drive a plan with the replies it assumes: what `render` and `dry_run` show. Pure: nothing is sent."""

from __future__ import annotations

from bridge.call import Call, LookUp, Outcome, Pause, Plan, Reply, Seen

_MOST_CALLS = 50


def rehearse(plan: Plan | LookUp) -> tuple[list[Call], Outcome | Seen | None]:
    """Every call of the shortest good way, in order, and what it came to.

    Raises RuntimeError for a plan that never ends on its own assumptions (a fault of the broker file).
    """
    calls: list[Call] = []
    answer: Reply | None = None
    try:
        while True:
            asked = plan.send(answer)
            if isinstance(asked, Pause):
                answer = None
                continue
            calls.append(asked)
            if len(calls) > _MOST_CALLS:
                raise RuntimeError(f"the plan for {asked.operation} does not end on its assumed replies")
            answer = Reply.of(asked.assumed)
    except StopIteration as done:
        outcome: Outcome | Seen | None = done.value
        return calls, outcome
