"""Templates that change under a running receiver: soon, whole, and never worse than before."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bridge import reload, template_files
from bridge.accounts import load_accounts
from bridge.alert import read_body
from bridge.clock import monotonic, now
from bridge.ledger import Ledger
from bridge.load import judge_for
from bridge.reload import LONGEST_S, QUIET_GONE_S, QUIET_S, AccountsFile, Quiet, Reloader
from bridge.shelf import Shelf
from bridge.template import Template, Templates
from tests.serving import SECRET, Hook, environment, free_port, part
from tests.wait import until

ACCOUNTS = """
accounts:
  one: {broker: tradovate, environment: sandbox, account: DEMO1, account_id: 1}
"""
SOON_S = 10.0
"""Two seconds are promised; a busy machine is given more before a test fails."""


_numbers = itertools.count(1)


def template(version: int, more: str = "") -> str:
    """A template whose orders carry its version in two places, far apart in the file."""
    return (f"account: one\nalert: {{num: number}}\ndedupe_window: 30s\n{more}"
            f"order:\n  kind: plain\n  quantity: {version}\n"
            f"# {'x' * 9000}\n  side: buy\n  type: limit\n  symbol: XXXZ6\n  price: \"{{{{ alert.num }}}}\"\n"
            f"  ref: v{version}\n")


BROKEN = "account: one\nalert: {num: number}\norder:\n  kind: plane\n"


# -- when to read, pure ----------------------------------------------------------------------------------------------

A, B, C = {"a.yaml": (1,)}, {"a.yaml": (2,)}, {"a.yaml": (3,)}


def test_a_change_is_due_once_the_folder_has_been_quiet() -> None:
    quiet = Quiet(A)

    assert not quiet.is_due(A, 0.0) and not quiet.changing
    assert not quiet.is_due(B, 1.0) and quiet.changing
    assert not quiet.is_due(C, 1.2)
    assert not quiet.is_due(C, 1.1 + QUIET_S)
    assert quiet.is_due(C, 1.2 + QUIET_S)
    quiet.was_read(C)
    assert not quiet.changing and not quiet.is_due(C, 9.0)


def test_a_folder_that_is_never_quiet_is_read_all_the_same() -> None:
    quiet = Quiet({"a.yaml": (-1,)})

    due = [tick for tick in range(30) if quiet.is_due({"a.yaml": (tick,)}, tick / 10)]

    assert due[0] == LONGEST_S * 10


def test_a_file_that_is_gone_may_be_on_its_way_back() -> None:
    quiet = Quiet(A)

    assert not quiet.is_due({}, 0.0) and not quiet.is_due({}, QUIET_S + 0.1)
    assert not quiet.is_due(A, 0.5) and not quiet.changing
    assert not quiet.is_due({}, 1.0)
    assert quiet.is_due({}, 1.0 + QUIET_GONE_S)


def test_what_takes_longest_still_takes_effect_within_two_seconds() -> None:
    assert reload.LOOK_EVERY_S + max(LONGEST_S, QUIET_GONE_S) < 1.9


# -- what serves after a look, with the time given -------------------------------------------------------------------


@dataclass
class Folder:
    """A folder of templates with a reloader that looks when it is told to."""

    path: Path
    environ: dict[str, str] = field(default_factory=dict)
    served: list[tuple[Templates, bool]] = field(default_factory=list)
    now_s: float = 1000.0

    def __post_init__(self) -> None:
        (self.path / "templates").mkdir(exist_ok=True)
        (self.path / "accounts.yaml").write_text(ACCOUNTS)
        self.shelf = Shelf()
        self.reloader = self.another()

    def another(self) -> Reloader:
        accounts_file = AccountsFile(self.path / "accounts.yaml")
        accounts = load_accounts(self.path / "accounts.yaml", self.environ, lenient=True)
        return Reloader(self.path / "templates", accounts_file, judge_for(accounts, self.environ), self.shelf)

    def begin(self, **templates: str) -> Templates:
        for name, text in templates.items():
            self.write(name, text)
        found = self.reloader.begin()
        self.reloader._serve = lambda templates, changed: self.served.append((templates, changed))
        return found

    def write(self, name: str, text: str | bytes) -> None:
        path = self.path / "templates" / (name if "." in name else f"{name}.yaml")
        path.write_bytes(text.encode() if isinstance(text, str) else text)

    def remove(self, name: str) -> None:
        (self.path / "templates" / f"{name}.yaml").unlink()

    def settle(self, reloader: Reloader | None = None) -> Templates:
        """Look until all that has changed is read."""
        for _ in range(40):
            self.now_s += 0.1
            (reloader or self.reloader).look(self.now_s)
        return self.templates

    @property
    def templates(self) -> Templates:
        return self.served[-1][0] if self.served else self.reloader._templates()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    found = Folder(tmp_path)
    yield found
    found.shelf.remove()


def version(templates: Templates, name: str = "a") -> str:
    """The version of the template that serves, by the order that it makes."""
    found, body = templates.loaded[name], read_body(b'{"num": 5}')
    order = found.render(found.read(body), body, received_at=now()).orders[0].order
    assert order.ref == f"v{order.quantity}"
    return str(order.ref)


class Log:
    """What the log was told, in place of the log."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda event, **more: self.lines.append((level, event, more))

    def of(self, words: str) -> list[dict[str, Any]]:
        return [more for _, event, more in self.lines if words in event]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    found = Log()
    monkeypatch.setattr(reload, "_log", found)
    return found


def test_an_edit_a_new_file_and_a_deleted_one_take_effect(folder: Folder, log: Log) -> None:
    assert version(folder.begin(a=template(1), gone=template(1))) == "v1"
    assert not log.lines

    folder.write("a", template(2))
    folder.write("fresh", template(7))
    folder.remove("gone")
    templates = folder.settle()

    assert version(templates) == "v2" and version(templates, "fresh") == "v7"
    assert set(templates.loaded) == {"a", "fresh"} and not templates.faults
    assert len(folder.served) == 1, "files that change together are served together"
    assert [[more["template"] for more in log.of(words)] for words in ("change serves", "new template", "is gone")] == [
        ["a"], ["fresh"], ["gone"]]


def test_a_rename_is_a_deleted_file_and_a_new_one(folder: Folder) -> None:
    folder.begin(a=template(1))

    (folder.path / "templates/a.yaml").rename(folder.path / "templates/b.yaml")

    assert set(folder.settle().loaded) == {"b"} and len(folder.served) == 1


def test_what_is_not_changed_is_not_judged_again(folder: Folder) -> None:
    before = folder.begin(a=template(1), b=template(1))

    folder.write("a", template(2))
    after = folder.settle()

    assert after.loaded["b"] is before.loaded["b"] and after.loaded["a"] is not before.loaded["a"]


def test_a_file_that_is_saved_as_it_was_changes_nothing(folder: Folder, log: Log) -> None:
    folder.begin(a=template(1))

    folder.write("a", template(1))
    folder.settle()

    assert not folder.served and not log.lines


def test_a_broken_edit_leaves_the_last_good_version_serving_and_is_told_once_with_its_place(
        folder: Folder, log: Log) -> None:
    folder.begin(a=template(1))
    folder.write("a", template(2))
    folder.settle()

    folder.write("a", BROKEN)
    templates = folder.settle()
    folder.settle()

    assert version(templates) == "v2"
    fault, = templates.faults["a"]
    assert str(fault).startswith(f"{folder.path}/templates/a.yaml:4:3: order.kind: ")
    assert [more["fault"] for more in log.of("last good version goes on serving")] == [str(fault)]


def test_every_broken_edit_is_told_and_so_is_the_repair(folder: Folder, log: Log) -> None:
    folder.begin(a=template(1))

    for text in (BROKEN, BROKEN + "# still\n", ""):
        folder.write("a", text)
        assert version(folder.settle()) == "v1"
    folder.write("a", template(2))
    templates = folder.settle()

    assert version(templates) == "v2" and not templates.faults
    assert len(log.of("last good version")) == 3 and len(log.of("loads again")) == 1


def test_an_edit_that_is_taken_back_ends_the_fault(folder: Folder) -> None:
    before = folder.begin(a=template(1))

    folder.write("a", BROKEN)
    folder.settle()
    folder.write("a", template(1))
    templates = folder.settle()

    assert not templates.faults and templates.loaded["a"] is before.loaded["a"]


def test_a_template_that_fails_its_own_tests_does_not_take_the_place_of_a_good_one(folder: Folder) -> None:
    folder.begin(a=template(1))

    folder.write("a", template(2, "tests: [{name: t, alert: {num: 5}, expect: {quantity: 3}}]\n"))
    templates = folder.settle()

    assert version(templates) == "v1" and "quantity is 2, expected 3" in templates.faults["a"][0].message


def test_one_that_never_loaded_has_no_last_good_version(folder: Folder, log: Log) -> None:
    templates = folder.begin(a=BROKEN, b=template(1))
    assert set(templates.loaded) == {"b"} and len(log.of("its alerts are refused")) == 1

    folder.write("fresh", BROKEN)
    templates = folder.settle()

    assert set(templates.loaded) == {"b"} and set(templates.faults) == {"a", "fresh"}


def test_a_template_that_was_deleted_leaves_no_last_good_version_behind(folder: Folder) -> None:
    folder.begin(a=template(1))
    folder.remove("a")
    folder.settle()

    folder.write("a", BROKEN)
    templates = folder.settle()

    assert not templates.loaded and set(templates.faults) == {"a"}


def test_a_broken_file_does_not_hold_the_others_back(folder: Folder) -> None:
    folder.begin(a=template(1), b=template(1))

    folder.write("a", BROKEN)
    folder.write("b", template(2))
    templates = folder.settle()

    assert version(templates, "a") == "v1" and version(templates, "b") == "v2"


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replaced_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replaced_by_a_link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.yaml")


def replaced_by_a_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def replaced_by_an_endless_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def made_huge(path: Path) -> None:
    path.write_text(template(2) + f"# {'x' * 300_000}\n")


def made_binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00account")


def given_a_second_of_its_name(path: Path) -> None:
    path.with_suffix(".yml").write_text(template(2))


@pytest.mark.parametrize(("act", "words"), [
    (replaced_by_a_folder, "is a folder"), (replaced_by_a_pipe, "is a pipe or device"),
    (replaced_by_an_endless_device, "is a pipe or device"), (replaced_by_a_link_to_nowhere, "cannot be read"),
    (replaced_by_a_link_to_itself, "cannot be read"), (made_huge, "more than 256 kB"), (made_binary, "not UTF-8"),
    (given_a_second_of_its_name, "two templates of the name a")])
def test_what_is_no_readable_file_leaves_the_last_good_version_serving(
        folder: Folder, act: Callable[[Path], None], words: str) -> None:
    folder.begin(a=template(1))

    act(folder.path / "templates/a.yaml")
    templates = folder.settle()

    assert version(templates) == "v1" and words in templates.faults["a"][0].message


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every file")
def test_an_unreadable_file_leaves_the_last_good_version_serving(folder: Folder) -> None:
    folder.begin(a=template(1))

    (folder.path / "templates/a.yaml").chmod(0)

    assert version(folder.settle()) == "v1" and folder.templates.faults


def test_a_link_to_another_file_is_followed(folder: Folder) -> None:
    folder.begin(a=template(1))
    (folder.path / "elsewhere").write_text(template(2))

    (folder.path / "templates/new").symlink_to(folder.path / "elsewhere")
    (folder.path / "templates/new").replace(folder.path / "templates/a.yaml")
    assert version(folder.settle()) == "v2"
    (folder.path / "elsewhere").write_text(template(3))

    assert version(folder.settle()) == "v3"


def test_a_folder_that_is_a_link_is_changed_as_one(tmp_path: Path, folder: Folder) -> None:
    for number in (1, 2):
        (tmp_path / f"set{number}").mkdir()
        (tmp_path / f"set{number}" / "a.yaml").write_text(template(number))
    (tmp_path / "templates").rmdir()
    (tmp_path / "templates").symlink_to("set1")
    assert version(folder.begin()) == "v1"

    (tmp_path / "next").symlink_to("set2")
    (tmp_path / "next").replace(tmp_path / "templates")

    assert version(folder.settle()) == "v2"


def test_what_editors_leave_for_a_moment_is_no_template(folder: Folder, log: Log) -> None:
    folder.begin(a=template(1))

    for name in ("a.yaml~", ".a.yaml.swp", "#a.yaml#", "4913", ".#a.yaml", "a.yaml.tmp", "._a.yaml", ".goutputstream-X",
                 "a.yaml___jb_tmp___", "sedXyZ12"):
        (folder.path / "templates" / name).write_text(BROKEN)
    folder.settle()

    assert not folder.served and not log.lines


def test_an_editor_that_renames_the_file_away_and_writes_it_anew_makes_one_change(folder: Folder, log: Log) -> None:
    folder.begin(a=template(1))
    path = folder.path / "templates/a.yaml"

    path.rename(path.with_name("a.yaml~"))
    folder.reloader.look(2000.0)
    folder.reloader.look(2000.9)
    path.write_text(template(2)[:300])
    folder.reloader.look(2001.0)
    path.write_text(template(2))
    folder.reloader.look(2001.1)
    folder.reloader.look(2001.2 + QUIET_S)

    assert version(folder.templates) == "v2" and len(folder.served) == 1 and len(log.lines) == 1


def test_an_edit_that_leaves_time_and_size_as_they_were_is_found_a_moment_later(
        folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that counts time in seconds."""
    second = [1]
    monkeypatch.setattr(template_files, "signature", lambda _: tuple(second))
    folder.begin(a=template(1))
    second[0] = 2
    folder.write("a", template(2))
    folder.reloader.look(2000.0)
    folder.reloader.look(2000.1 + QUIET_S)
    assert version(folder.templates) == "v2"

    folder.write("a", template(3))
    folder.reloader.look(2001.5)

    assert version(folder.templates) == "v3"


def test_files_that_change_while_they_are_read_are_read_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write("a", template(1))
    folder.write("b", template(1))
    read, calls = template_files.read_source, itertools.count()

    def reading(path: Path) -> template_files.Source:
        found = read(path)
        if next(calls) == 0:
            folder.write("a", template(2))
            folder.write("b", template(2))
        return found

    monkeypatch.setattr(template_files, "read_source", reading)

    _, sources = template_files.read_folder(folder.path / "templates")

    assert {name: source.content.decode() for name, source in sources.items()} == {"a": template(2), "b": template(2)}


def test_a_folder_that_cannot_be_read_drops_no_template(folder: Folder, log: Log) -> None:
    folder.begin(a=template(1))
    path = folder.path / "templates"

    path.rename(folder.path / "away")
    templates = folder.settle()
    assert version(templates) == "v1" and set(templates.faults) == {"templates"}
    assert len(log.of("cannot be read; the last set goes on serving")) == 1

    (folder.path / "away").rename(path)
    templates = folder.settle()
    assert version(templates) == "v1" and not templates.faults


def test_a_folder_that_is_made_later_is_found(folder: Folder) -> None:
    (folder.path / "templates").rmdir()
    assert not folder.begin().loaded and folder.reloader._templates().faults

    (folder.path / "templates").mkdir()
    folder.write("a", template(1))

    assert version(folder.settle()) == "v1" and not folder.templates.faults


def test_a_changed_accounts_file_is_told_once_and_counts_from_the_next_start(folder: Folder, log: Log) -> None:
    folder.begin(a=template(1))
    two = ACCOUNTS + "  two: {broker: tradovate, environment: sandbox, account: DEMO2, account_id: 2}\n"

    (folder.path / "accounts.yaml").write_text(two)
    folder.settle()
    assert folder.served[-1][1] and len(log.of("the accounts file has changed")) == 1
    folder.write("b", template(1).replace("account: one", "account: two"))
    templates = folder.settle()
    assert set(templates.loaded) == {"a"}
    assert "restart" in log.of("does not load")[0]["hint"]

    (folder.path / "accounts.yaml").write_text(ACCOUNTS)
    folder.settle()
    assert not folder.served[-1][1] and len(log.of("again what it was")) == 1


def test_a_templates_secret_follows_its_file(folder: Folder) -> None:
    folder.environ |= {"FIRST": "first-secret-0123456789", "SECOND": "second-secret-0123456789"}
    folder.reloader = folder.another()
    folder.begin(a=template(1, "secret: ${FIRST}\n"))

    folder.write("a", template(1, "secret: ${SECOND}\n"))
    assert folder.settle().loaded["a"].secret == folder.environ["SECOND"]
    folder.write("a", template(2, "secret: ${THIRD}\n"))
    templates = folder.settle()

    assert version(templates) == "v1" and templates.loaded["a"].secret == folder.environ["SECOND"]
    assert "THIRD is not set" in templates.faults["a"][0].message


def test_a_fault_of_ours_in_judging_one_template_stops_no_other(
        folder: Folder, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = folder.reloader._judge

    def faulty(file: str, content: bytes) -> Template:
        if b"ref: v2" in content:
            raise RecursionError
        return judge(file, content)

    monkeypatch.setattr(folder.reloader, "_judge", faulty)
    folder.begin(a=template(1), b=template(1))
    folder.write("a", template(2))
    folder.write("b", template(3))
    templates = folder.settle()

    assert version(templates, "a") == "v1" and version(templates, "b") == "v3"
    assert "RecursionError" in templates.faults["a"][0].message and log.of("a fault of Bridge")


# -- several processes -----------------------------------------------------------------------------------------------


def test_a_process_that_missed_an_edit_agrees_on_the_last_good_version_and_tells_nothing_twice(
        folder: Folder, log: Log) -> None:
    folder.begin(a=template(1))
    other = folder.another()
    other.begin()

    folder.write("a", template(2))
    folder.settle()
    folder.write("a", BROKEN)
    folder.settle(other)
    folder.settle()

    assert version(other._templates()) == "v2" == version(folder.templates)
    assert len(log.of("last good version")) == 1 and len(log.of("change serves")) == 1


def test_without_a_place_in_common_a_process_goes_on_by_itself(folder: Folder, log: Log) -> None:
    folder.begin(a=template(1))
    folder.shelf.remove()

    folder.write("a", template(2))
    folder.settle()
    folder.write("a", BROKEN)

    assert version(folder.settle()) == "v2"


def test_a_damaged_place_in_common_costs_no_template(folder: Folder) -> None:
    folder.begin(a=template(1))
    assert folder.shelf._folder is not None
    (folder.shelf._folder / "common").write_text('{"good": 5')

    folder.write("a", BROKEN)

    assert version(folder.settle()) == "v1"


# -- a real receiver -------------------------------------------------------------------------------------------------


@dataclass
class Site:
    """A folder of templates, a receiver that serves it, and the ledger behind."""

    folder: Path
    hook: Hook
    pid: int
    ledger: Ledger

    def write(self, name: str, text: str) -> None:
        (self.folder / "templates" / f"{name}.yaml").write_text(text)

    def replace(self, name: str, text: str) -> None:
        (self.folder / "templates" / ".new").write_text(text)
        (self.folder / "templates" / ".new").replace(self.folder / "templates" / f"{name}.yaml")

    def alert(self) -> dict[str, Any]:
        """One like no other."""
        return {"num": next(_numbers)}

    def version(self, name: str = "a") -> int:
        """The version that an alert of now is judged by; both places where the order carries it have to agree."""
        answer = self.hook.send(name, self.alert())
        assert answer.status == 202, answer.raw
        order = self.ledger.order(answer.json["orders"][0]["id"])
        assert order is not None
        assert order["ref"] == f"v{order['quantity']}", "judged by half a change"
        return int(order["quantity"])

    def ready(self) -> dict[str, Any]:
        found: dict[str, Any] = self.hook.get("/readyz").json
        return found

    def told(self, words: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.hook.log.read_text().splitlines()]
        return [line for line in lines if words in line["event"]]


@contextmanager
def site(folder: Path, redis_server: str, *, share: Path | None = None, **settings: str) -> Iterator[Site]:
    """A receiver of its own, with the folder of templates of `share` or one that holds version 1 of `a` and `b`."""
    files = share or folder
    if share is None:
        (folder / "templates").mkdir()
        (folder / "accounts.yaml").write_text(ACCOUNTS)
        for name in ("a", "b"):
            (folder / "templates" / f"{name}.yaml").write_text(template(1))
    port = free_port()
    environ = environment(folder, redis_url=redis_server, bind=f"127.0.0.1:{port}", secret=SECRET,
                          templates=str(files / "templates"), accounts=str(files / "accounts.yaml"), **settings)
    ledger = Ledger(redis_server)
    try:
        with part("receiver", environ, folder / "log") as process:
            yield Site(files, Hook(port, folder / "log"), process.pid, ledger)
    finally:
        ledger.close()


@pytest.fixture(scope="module")
def receiver(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("receiver"), redis_server) as found:
        yield found


def test_an_edit_takes_effect_without_a_restart(receiver: Site) -> None:
    receiver.write("edited", template(1))
    until(lambda: receiver.hook.send("edited", receiver.alert()).status == 202, SOON_S)
    assert receiver.version("edited") == 1

    receiver.write("edited", template(2))

    until(lambda: receiver.version("edited") == 2, SOON_S)
    assert 'template="edited"' in receiver.hook.get("/metrics").body.decode()


def test_a_broken_edit_is_told_in_the_log_and_by_readiness_while_the_last_good_version_serves(receiver: Site) -> None:
    before = receiver.ready()

    receiver.write("b", BROKEN)
    until(lambda: receiver.ready()["stale_templates"] == 1, SOON_S)

    assert receiver.version("b") == 1
    assert receiver.hook.get("/readyz").status == 200
    assert receiver.ready() == {**before, "broken_templates": 1, "stale_templates": 1}
    assert 'bridge_templates{state="stale"} 1.0' in receiver.hook.get("/metrics").body.decode()
    told = receiver.told("last good version goes on serving")
    assert len(told) == 1 and told[0]["level"] == "error" and "b.yaml:4:3: order.kind" in told[0]["fault"]

    receiver.write("b", template(2))
    until(lambda: receiver.version("b") == 2, SOON_S)
    assert receiver.ready() == before


def test_a_deleted_template_is_answered_like_an_unknown_one_and_a_renamed_one_by_its_new_name(receiver: Site) -> None:
    receiver.write("old", template(1))
    until(lambda: receiver.hook.send("old", receiver.alert()).status == 202, SOON_S)

    (receiver.folder / "templates/old.yaml").rename(receiver.folder / "templates/renamed.yaml")
    until(lambda: '"renamed"' in receiver.hook.log.read_text(), SOON_S)  # asking would use up what strangers may be wrong
    until(lambda: receiver.hook.send("renamed", receiver.alert()).status == 202, SOON_S)

    gone, unknown = receiver.hook.send("old", receiver.alert()), receiver.hook.send("never", receiver.alert())
    assert gone.status == 404
    gone.headers.pop("date"), unknown.headers.pop("date")
    assert (gone.headers, gone.body) == (unknown.headers, unknown.body)


def test_a_changed_accounts_file_shows_in_readiness(receiver: Site) -> None:
    assert "accounts" not in receiver.ready()

    (receiver.folder / "accounts.yaml").write_text(ACCOUNTS + "# changed\n")
    until(lambda: "restart" in receiver.ready().get("accounts", ""), SOON_S)
    assert receiver.hook.get("/readyz").status == 200

    (receiver.folder / "accounts.yaml").write_text(ACCOUNTS)
    until(lambda: "accounts" not in receiver.ready(), SOON_S)


BOMBS = {
    "brackets": "a: " + "[" * 100_000,
    "braces": "a: " + "{a: " * 60_000,
    "aliases": "a: &a [x, x]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n"
                                          for n in range(20)),
    "indents": "".join(" " * depth + "a:\n" for depth in range(600)),
    "keys": "? " * 100_000,
    "one long key": "k" * 250_000 + ": 1",
    "tests without end": template(1) + "tests:\n" + "  - {name: t, alert: {num: 5}, expect: {quantity: 1}}\n" * 4_000,
    "brackets in an expression": template(1).replace("{{ alert.num }}", "{{ " + "(" * 50_000 + " }}"),
    "a sum without end": template(1).replace("{{ alert.num }}", "{{ alert.num" + " + 1" * 50_000 + " }}"),
}


def test_no_file_kills_or_stops_the_receiver(receiver: Site) -> None:
    before = children(receiver.pid)

    for number, text in enumerate(BOMBS.values()):
        receiver.write(f"bomb{number}", text)
    bombs = {f"bomb{number}" for number in range(len(BOMBS))}
    until(lambda: bombs <= {line["template"] for words in ("does not load", "new template")
                            for line in receiver.told(words)}, 30)

    assert children(receiver.pid) == before and receiver.hook.get("/healthz").status == 200
    receiver.write("a", template(3))
    until(lambda: receiver.version() == 3, SOON_S)
    for name in bombs:
        (receiver.folder / f"templates/{name}.yaml").unlink()
    until(lambda: receiver.ready()["broken_templates"] == 0, SOON_S)


def children(pid: int) -> list[int]:
    """The processes that a receiver's first one has made."""
    try:
        return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        pytest.skip("looks at processes as Linux shows them")


def test_a_resent_alert_is_known_by_what_it_was_known_by_before_an_edit(receiver: Site) -> None:
    """Senders resend for 25 s. An edit of `id:` between the two must not make a second order."""
    receiver.write("named", template(1))
    until(lambda: receiver.hook.send("named", receiver.alert()).status == 202, SOON_S)
    body = receiver.alert()
    first = receiver.hook.send("named", body)

    for number, edit in enumerate(("id: '{{ alert.num }}'\n", "id: 'x{{ alert.num }}'\n", "")):
        receiver.write("named", template(2 + number, edit))
        until(lambda: receiver.version("named") == 2 + number, SOON_S)  # noqa: B023 called at once
        again = receiver.hook.send("named", body)

        assert again.status == 200 and again.json["duplicate_of"] == first.json["alert"], again.body
        assert "conflict" not in again.json


def test_a_hundred_edits_under_traffic_and_every_alert_is_judged_by_one_whole_version(receiver: Site) -> None:
    receiver.write("busy", template(1))
    until(lambda: receiver.hook.send("busy", receiver.alert()).status == 202, SOON_S)
    seen: list[int] = []
    failures: list[BaseException] = []
    over = threading.Event()

    def traffic() -> None:
        try:
            while not over.is_set():
                seen.append(receiver.version("busy"))
        except BaseException as failure:  # noqa: BLE001 told by the test itself
            failures.append(failure)

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        for number in range(2, 102):
            sent = len(seen)
            (receiver.write if number % 2 else receiver.replace)("busy", template(number))
            until(lambda: len(seen) > sent + 3 or failures, SOON_S)  # noqa: B023 called at once
        until(lambda: failures or 101 in seen, SOON_S)
    finally:
        over.set()
        thread.join()

    assert not failures, failures
    assert seen == sorted(seen), "an older version served after a newer one"
    assert len(set(seen)) > 2


def test_files_that_are_saved_together_are_never_seen_half(receiver: Site) -> None:
    for name in ("left", "right"):
        receiver.write(name, template(1))
    until(lambda: receiver.hook.send("right", receiver.alert()).status == 202, SOON_S)
    number = counted = 1
    while counted <= 3 and number < 12:
        number += 1
        began = monotonic()
        receiver.write("left", template(number))
        halves: list[tuple[int, int]] = []
        while monotonic() - began < QUIET_S * 0.7:
            halves.append((receiver.version("left"), receiver.version("right")))
        receiver.write("right", template(number))
        counted += monotonic() - began < QUIET_S
        if monotonic() - began < QUIET_S:
            assert set(halves) == {(number - 1, number - 1)}
        pair = (0, 0)
        while pair != (number, number):
            pair = receiver.version("left"), receiver.version("right")
            assert pair[1] >= pair[0], "the left one was changed without the right one"
            assert monotonic() - began < SOON_S
    assert counted > 1, "this machine is too busy to save two files together"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes as Linux shows them")
def test_all_processes_and_receivers_agree_even_one_that_is_started_after_a_broken_edit(
        redis_server: str, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with site(tmp_path / "one", redis_server, receiver_workers="2") as one, \
            site(tmp_path / "two", redis_server, share=tmp_path / "one") as two:
        one.replace("a", template(2))
        for each, times in ((one, 12), (two, 1)):
            until(lambda: {each.version() for _ in range(times)} == {2}, SOON_S)  # noqa: B023 called at once
        assert len(one.told("a template's change serves now")) == 1

        one.replace("a", BROKEN)
        until(lambda: all(each.told("last good version goes on serving") for each in (one, two)), SOON_S)
        before = children(one.pid)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(children(one.pid)) == 2 and not set(before) & set(children(one.pid)), SOON_S)
        until(lambda: one.hook.get("/healthz").status == 200, SOON_S)

        assert {one.version() for _ in range(12)} == {2}
        assert one.ready()["stale_templates"] == 1 and len(one.told("last good version goes on serving")) == 1
