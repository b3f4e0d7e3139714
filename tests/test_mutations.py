"""The proof that the soak can fail does not rot: each safeguard is where it is switched off, and one is played here."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from tests.soak.judge import COLUMNS
from tests.soak.mutations import MUTATIONS, Mutation, chosen, mutated, switched_off
from tests.soak.scenarios import SCENARIOS, run
from tests.soak.site import ROOT

_EACH = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.name)


@_EACH
def test_each_safeguard_is_where_the_mutation_that_switches_it_off_says(mutation: Mutation) -> None:
    assert mutation.old not in switched_off(mutation)
    assert mutation.scenario in SCENARIOS and mutation.column in COLUMNS


@_EACH
def test_the_code_without_a_safeguard_still_runs_so_that_nothing_else_is_caught(mutation: Mutation,
                                                                               redis_server: str) -> None:
    text = switched_off(mutation)
    if mutation.file.endswith(".py"):
        ast.parse(text)
        return
    prelude = (ROOT / "bridge/lua/_lane.lua").read_text()
    if mutation.file.endswith("_lane.lua"):
        prelude, text = text, (ROOT / "bridge/lua/submit.lua").read_text()
    with redis.Redis.from_url(redis_server) as client:
        client.script_load(prelude + text.removeprefix("#!lua flags=allow-oom"))


def test_a_safeguard_that_was_moved_or_stands_twice_makes_its_mutation_fail_loudly(tmp_path: Path) -> None:
    gone, twice = replace(MUTATIONS[0], old="no such text"), replace(MUTATIONS[0], old="redis.call")

    for mutation in (gone, twice):
        with pytest.raises(RuntimeError, match="dedupe in the script.*is not where"):
            mutated(mutation, tmp_path)


def test_all_eight_safeguards_are_switched_off_once_and_every_scenario_is_for_one() -> None:
    assert len({each.name for each in MUTATIONS}) == len(MUTATIONS) == 8
    assert {each.scenario for each in MUTATIONS} == set(SCENARIOS)
    assert [each.name for each in chosen(["fenc"])] == ["fencing"]


def test_a_bridge_without_its_dedupe_is_caught_doubling_orders(tmp_path: Path) -> None:
    (mutation,) = chosen(["dedupe"])
    (tmp_path / "run").mkdir()

    verdict = run(SCENARIOS[mutation.scenario], tmp_path / "run", mutated(mutation, tmp_path / "code"))

    assert verdict.count("doubled") > 0, verdict.to_json()
