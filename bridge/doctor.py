"""`bridge doctor`: is this installation sound, and what would an accepted alert survive? It looks and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bridge.embedded import find, free_disk
from bridge.errors import EXIT_DONE, EXIT_INPUT, EXIT_SERVICE, Fault, ServiceError
from bridge.ledger.connection import LEAST_FREE_DISK, MOST_MEMORY
from bridge.ledger.health import Health, LaneFacts, ServerFacts
from bridge.load import load, settings_of
from bridge.settings import Settings, mask_url
from bridge.show import print_json, print_line

OK, WARN, FAULT, AWAY = "ok", "warn", "fault", "away"
_KINDS = {"single": "one server", "sentinel": "Sentinel", "cluster": "Cluster"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: `state` ok, warn, fault or away, what was seen, and what to do about it."""

    name: str
    state: str
    seen: str
    do: str = ""


@dataclass(frozen=True, slots=True)
class Survival:
    """What an accepted alert survives: yes, no or maybe, and why."""

    process_kill: str
    power_loss: str
    loss_of_primary: str


def examine(environ: Mapping[str, str]) -> tuple[list[Check], Survival | None]:
    """Every check, and what an accepted alert would survive (None when the server could not be asked)."""
    settings = settings_of(environ)
    checks = list(_files(settings, environ))
    try:
        url = find(settings)
        ledger = Health(url, retention_ms=settings.retention)
    except ServiceError as error:
        return [Check("server", AWAY, str(error), "start it, or correct BRIDGE_REDIS_URL"), *checks], None
    try:
        servers = ledger.servers()
        found = [_where(ledger.kind, servers, url, embedded=not settings.redis_url)]
        for server in servers:
            found += _server(server, ledger.kind)
        if not settings.redis_url:
            found.append(_disk(settings))
        lanes = ledger.lanes()
        found += [*_people(lanes), *_workers(lanes), *_records(lanes)]
        return [*found, *checks], survival(ledger.kind, servers, settings.replicas)
    except ServiceError as error:
        return [Check("server", AWAY, f"{mask_url(url)}: {error}", "start it, or correct BRIDGE_REDIS_URL"), *checks], None
    finally:
        ledger.close()


def run_doctor(environ: Mapping[str, str], *, as_json: bool) -> int:
    """Print what was found; the exit code: 0 sound, 1 something is at fault, 3 the server cannot be reached."""
    checks, survives = examine(environ)
    states = {check.state for check in checks}
    code = EXIT_SERVICE if AWAY in states else EXIT_INPUT if FAULT in states else EXIT_DONE
    if as_json:
        print_json({"sound": code == EXIT_DONE, "checks": [asdict(check) for check in checks],
                    "survives": asdict(survives) if survives else None})
        return code
    for check in checks:
        print_line(f"{check.state:<6}{check.name}: {check.seen}" + (f" → {check.do}" if check.do else ""))
    if survives:
        print_line()
        print_line("an accepted alert survives")
        for what, answer in asdict(survives).items():
            print_line(f"  {what.replace('_', ' '):<17}{answer}")
    return code


# -- the server ------------------------------------------------------------------------------------------------------


def _where(kind: str, servers: list[ServerFacts], url: str, *, embedded: bool) -> Check:
    version = ", ".join(sorted({_version(server) for server in servers}))
    what = "the embedded server" if embedded else _KINDS[kind]
    count = f" of {len(servers)} primaries" if kind == "cluster" else ""
    return Check("server", OK, f"{what}{count}, {version}, at {mask_url(url)}")


def _version(server: ServerFacts) -> str:
    if version := server.info.get("valkey_version"):
        return f"Valkey {version}"
    return f"Redis {server.info.get('redis_version', 'of unknown version')}"


def _server(server: ServerFacts, kind: str) -> Iterator[Check]:
    at = f" of {server.address}" if kind == "cluster" else ""
    info, config = server.info, server.config
    yield _append_only(server, at)
    if config is None:
        yield Check(f"appendfsync{at}", WARN, "the server does not let itself be asked",
                    "see your provider's page whether every write is synced before it is answered")
    elif _number(info, "aof_enabled"):
        fsync = config.get("appendfsync", "")
        yield Check(f"appendfsync{at}", OK, fsync) if fsync == "always" else Check(
            f"appendfsync{at}", FAULT, f"{fsync}: alerts that were answered 202 can be lost", "CONFIG SET appendfsync always")
    yield _memory(server, at)
    yield _saving(server, at)
    if kind != "single" or _number(info, "connected_slaves"):
        yield _replicas(server, at, kind)


def _append_only(server: ServerFacts, at: str) -> Check:
    if _number(server.info, "aof_enabled"):
        return Check(f"append-only file{at}", OK, "on")
    return Check(f"append-only file{at}", FAULT, "off: a restart of the server loses accepted alerts",
                 "CONFIG SET appendonly yes, and in its configuration file")


def _memory(server: ServerFacts, at: str) -> Check:
    used, most = _number(server.info, "used_memory"), _number(server.info, "maxmemory")
    policy = str(server.info.get("maxmemory_policy", "unknown"))
    seen = f"{_mb(used)} used of " + (_mb(most) if most else "no limit") + f", {policy}"
    if policy != "noeviction":
        return Check(f"memory{at}", FAULT, f"{seen}: when it is full the server throws orders away",
                     "CONFIG SET maxmemory-policy noeviction")
    if most and used > most * MOST_MEMORY:
        return Check(f"memory{at}", FAULT, f"{seen}: alerts are refused with 503", "raise maxmemory")
    return Check(f"memory{at}", OK, seen)


def _saving(server: ServerFacts, at: str) -> Check:
    wrong = [name for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
             if server.info.get(name, "ok") != "ok"]
    if wrong:
        return Check(f"writing to disk{at}", FAULT, f"failed: {', '.join(wrong)}", "look at the server's log and its disk")
    if _number(server.info, "loading"):
        return Check(f"writing to disk{at}", FAULT, "the server is still loading its data", "wait")
    return Check(f"writing to disk{at}", OK, "no error")


def _replicas(server: ServerFacts, at: str, kind: str) -> Check:
    count, good = _number(server.info, "connected_slaves"), (server.config or {}).get("min-replicas-to-write", "unknown")
    seen = f"{count} connected, min-replicas-to-write {good}"
    if not count:
        return Check(f"replicas{at}", WARN, f"{seen}: nothing takes over when this server is lost", "add a replica")
    if kind != "single" and good == "0":
        return Check(f"replicas{at}", WARN, f"{seen}: a primary that is cut off goes on accepting what will be discarded",
                     "CONFIG SET min-replicas-to-write 1")
    return Check(f"replicas{at}", OK, seen)


def _disk(settings: Settings) -> Check:
    free = free_disk(settings.data)
    if free is None:
        return Check("disk", WARN, f"the free space at {settings.data} is not known")
    if free < LEAST_FREE_DISK:
        return Check("disk", FAULT, f"{_mb(free)} free at {settings.data}: alerts are refused with 503", "make room")
    return Check("disk", OK if free > 4 * LEAST_FREE_DISK else WARN, f"{_mb(free)} free at {settings.data}",
                 "" if free > 4 * LEAST_FREE_DISK else f"make room: below {_mb(LEAST_FREE_DISK)} alerts are refused")


def survival(kind: str, servers: list[ServerFacts], copies: int = 0) -> Survival:
    """What an alert survives once it was answered 202, by how the servers are set. Pessimistic where it is not known."""
    kept = all(_number(server.info, "aof_enabled") for server in servers)
    policies = {(server.config or {}).get("appendfsync", "") for server in servers}
    copied = all(_number(server.info, "connected_slaves") for server in servers)
    evicts = any(server.info.get("maxmemory_policy") != "noeviction" for server in servers)
    if not kept:
        process = power = "no: the server keeps what was written in memory only"
    elif policies == {"always"}:
        process = "yes: every write is on disk before it is answered"
        power = "yes, if the disk tells the truth about what it has written"
    elif "" in policies:
        process = power = "not known: the server does not say how it syncs"
    else:
        process = "mostly: while a sync is slow, answered writes may not have reached the system yet"
        power = ("no: some 30 seconds of accepted alerts may be lost" if "no" in policies else
                 "no: about a second of accepted alerts is lost, on a slow disk more")
    if evicts:
        process = f"no: the server may throw it away when memory is full ({process})"
    if not copied:
        lost = "no: with the server's disk everything is lost; there is no replica of it"
    else:
        lost = "maybe: replicas get it a moment AFTER it was answered; what they had not got yet is lost (BRIDGE_REPLICAS=1)"
        if copies:
            lost = f"yes, if the replica that takes over is one of the {copies} that have it (BRIDGE_REPLICAS)"
        if kind == "single":
            lost += ", and no Sentinel or Cluster puts a replica in its place"
    return Survival(process, power, lost)


# -- what stands in it -----------------------------------------------------------------------------------------------


def _people(lanes: list[LaneFacts]) -> Iterator[Check]:
    waiting = {lane.account: lane.waiting for lane in lanes if lane.waiting}
    if waiting:
        yield Check("orders", WARN, f"{sum(waiting.values())} wait for a person ({', '.join(sorted(waiting))})",
                    "bridge orders --waiting")
    else:
        yield Check("orders", OK, "none waits for a person")


def _workers(lanes: list[LaneFacts]) -> Iterator[Check]:
    for lane in lanes:
        name = f"lane {lane.account}"
        if lane.owned_ms is not None and lane.owned_ms > 0:
            yield Check(name, OK, f"owned by a worker, {lane.length} in it")
            continue
        since = "no worker owns it" if lane.owned_ms is None else (
            f"its worker's lease ended {-lane.owned_ms // 1000} s ago and nobody took it over")
        if lane.length:
            yield Check(name, FAULT, f"{since}, and {lane.length} orders wait in it",
                        "start a worker that has this account in its accounts.yaml")
        else:
            yield Check(name, WARN, f"{since}; nothing waits in it", "start a worker, if this account is still in use")


def _records(lanes: list[LaneFacts]) -> Iterator[Check]:
    damaged = [order for lane in lanes for order in lane.damaged]
    if damaged:
        yield Check("records", FAULT, f"damaged, and not traded: {', '.join(damaged[:10])}",
                    "look at these orders at your broker, and at the server's disk")
    else:
        yield Check("records", OK, "no order that is open is damaged")


def _files(settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    loaded = load(settings, environ, lenient=True)
    yield _broken("accounts", len(loaded.accounts.accounts), loaded.accounts.faults)
    faults = tuple(fault for each in loaded.templates.faults.values() for fault in each)
    yield _broken("templates", len(loaded.templates.loaded), faults)


def _broken(name: str, sound: int, faults: tuple[Fault, ...]) -> Check:
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return Check(name, FAULT, f"{sound} sound; {str(faults[0]).splitlines()[0]}{more}", "bridge check")
    return Check(name, OK if sound else WARN, f"{sound} sound", "" if sound else f"there are no {name} yet")


def _number(found: Mapping[str, Any], name: str) -> int:
    try:
        return int(found.get(name, 0))
    except (TypeError, ValueError):
        return 0


def _mb(size: int) -> str:
    return f"{size / (1 << 20):.0f} MB"
