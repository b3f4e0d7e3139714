"""The receiver: HTTP in; an alert is read, made into orders, put into the ledger, and only then answered.

    POST /hook/<template>/<secret>     GET /healthz   /readyz   /metrics

No input makes a 500, a redirect or an echo. What cannot be accepted now (the ledger is away, or a fault of ours) is
answered 503 with Retry-After, for a sender resends on that and nothing else. Nothing here logs a request's path.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from flask import Flask, Request, Response, request
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.exceptions import HTTPException

from bridge import clock
from bridge.alert import Body, read_body
from bridge.errors import AlertError, BodyError, Fault, InputError, LedgerAway, MasterAwaited, SettingsError
from bridge.guards import guards_in
from bridge.http_body import Unread, announced_length, read_request
from bridge.instruments import Masters
from bridge.intake import decide, invalid, known_key
from bridge.ledger import Ledger
from bridge.log import get_logger, mask
from bridge.metrics import Metrics
from bridge.record import STOPPED, Delivery, Enqueued
from bridge.settings import Settings
from bridge.template import Template, Templates
from bridge.throttle import Throttle

_log = get_logger("receiver")

HEADERS = (("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer"), ("X-Content-Type-Options", "nosniff"))
_JSON = (*HEADERS, ("Content-Type", "application/json"))
_PROBLEM = (*HEADERS, ("Content-Type", "application/problem+json"))
_RETRY = (*_PROBLEM, ("Retry-After", "5"))
_PHRASES = {400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
            413: "Content Too Large", 415: "Unsupported Media Type", 422: "Unprocessable Content",
            429: "Too Many Requests", 503: "Service Unavailable"}
_NO_MASTERS = Masters(otherwise="this receiver keeps no instrument master")
_NO_HOME = "-"
"""Where alerts of a template that does not load are kept: its home is fixed for ever once it loads, not before."""
_LOOK_AGAIN_S = 1.0
"""How long an answer of /readyz is good for: a stranger who asks it often must not cost a disk write each time."""

_CLOCK_SLACK_S = 2.0
"""A clock that is set back by less is not spoken of."""
_RESENT_FOR_S, _MOST_FORMER = 30.0, 8
"""So long after an edit an alert is known by what the template before the edit knew it by: senders resend for 25 s."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What a request is judged by. It is replaced as a whole and never altered, so that nothing is judged by half a change.

    `secrets` are digests of what opens each template; `former` are templates that were edited just now, with the time
    until which they are remembered.
    """

    templates: Templates
    secrets: Mapping[str, bytes]
    accounts_changed: bool = False
    former: Mapping[str, tuple[tuple[float, Template], ...]] = field(default_factory=dict)


class Receiver:
    """The WSGI application `app` and what it needs. `draining` is set when the process has begun to stop."""

    def __init__(self, settings: Settings, templates: Templates, ledger: Ledger,
                 masters: Callable[[], Masters] = lambda: _NO_MASTERS) -> None:
        if not settings.secret:
            raise SettingsError("BRIDGE_SECRET is not set: without it anybody could send orders "
                                "(`bridge up` makes one and keeps it)")
        self.ledger, self.masters = ledger, masters
        self.draining = threading.Event()
        self.metrics = Metrics()
        self._throttle = Throttle()
        self._shared = _digest(settings.secret)
        self._nobody = _digest(uuid.uuid4().hex)
        self._readiness: tuple[float, int, dict[str, Any]] | None = None
        self._clock, self._told_behind_s = clock.Advancing(), 0.0
        self._accounts: frozenset[str] = frozenset()
        self._serving = Serving(Templates(), {})
        self.serve(templates)
        self.app = self._routes()

    def serve(self, templates: Templates, accounts_changed: bool = False) -> None:
        """From now on judge what comes by these templates. Requests that have begun keep those before."""
        secrets = dict.fromkeys(templates.faults, self._shared)
        secrets |= {name: _digest(template.secret) if template.secret else self._shared
                    for name, template in templates.loaded.items()}
        self._accounts |= {account for template in templates.loaded.values() for account in template.accounts}
        self.metrics.know(templates.loaded)
        self._serving = Serving(templates, secrets, accounts_changed,
                                _former(self._serving, templates, clock.monotonic()))
        for state, number in _counts(templates).items():
            self.metrics.templates.labels(state).set(number)
        self._readiness = None

    def _routes(self) -> Flask:
        app = Flask("bridge", static_folder=None, template_folder=None)
        app.url_map.merge_slashes = False
        app.url_map.strict_slashes = True
        app.session_interface = _NoSessions()
        app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
        app.add_url_rule("/hook/<template>/<secret>", "hook", self._hook, methods=["POST"])
        app.add_url_rule("/healthz", "healthz", lambda: _answer({"status": "ok"}, 200))
        app.add_url_rule("/readyz", "readyz", self._ready)
        app.add_url_rule("/metrics", "metrics", self._metrics)
        app.register_error_handler(HTTPException, _refuse)
        app.register_error_handler(Exception, self._fault)
        return app

    # -- the webhook -------------------------------------------------------------------------------------------------

    def _hook(self, template: str, secret: str) -> Response:
        began = clock.monotonic()
        environ = request.environ
        try:
            length = announced_length(environ)
        except Unread as unread:
            return _problem(unread.status, unread.words)
        serving = self._serving
        expected = serving.secrets.get(template, self._nobody)
        if not hmac.compare_digest(expected, _digest(secret)):
            return self._turn_away(request)
        outcome, response = self._open(serving, template, environ, length)
        self.metrics.alert(template, outcome, clock.monotonic() - began)
        return response

    def _turn_away(self, stranger: Request) -> Response:
        """The same for a wrong secret and for an unknown template; too often: slower."""
        if self._throttle.allows(stranger.remote_addr or "", clock.monotonic()):
            self.metrics.stranger("404")
            return _problem(404, "there is nothing here")
        self.metrics.stranger("429")
        return _problem(429, "too many requests with a wrong address", headers=(*_PROBLEM, ("Retry-After", "5")))

    def _open(self, serving: Serving, name: str, environ: Mapping[str, Any],
              length: int | None) -> tuple[str, Response]:
        """An alert whose sender knows the secret: (outcome for the metrics, answer)."""
        if self.draining.is_set():
            return "unavailable", _unavailable("this receiver is stopping")
        try:
            raw = read_request(environ, length)
        except Unread as unread:
            _log.warning("an alert's body could not be read", template=name, reason=unread.words)
            return {413: "too_large", 408: "too_slow"}.get(unread.status, "invalid"), _problem(
                unread.status, unread.words)
        try:
            return self._take(serving, name, raw, self._now())
        except LedgerAway as away:
            _log.error("an alert could not be accepted; its sender was asked to send it again", template=name,
                       reason=str(away))
            return "unavailable", _unavailable("the ledger is away: send it again")
        except MasterAwaited as awaited:
            _log.warning("an alert came too early; its sender was asked to send it again", template=name,
                         reason=str(awaited))
            return "unavailable", _unavailable("instruments are being loaded: send it again")

    def _now(self) -> datetime:
        """When an alert is received. A clock that was set back makes no old alert look new, and a person is told of it."""
        now, behind_s = self._clock.now()
        if abs(behind_s - self._told_behind_s) > _CLOCK_SLACK_S:
            self._told_behind_s = behind_s
            if behind_s > _CLOCK_SLACK_S:
                _log.error("told to a person: the system's clock was set back while Bridge ran. Until it is right again, "
                           "alerts are as old as the clock before says; if it is right now, start Bridge again",
                           by_s=round(behind_s, 1))
        return now

    def _take(self, serving: Serving, name: str, raw: bytes, now: datetime) -> tuple[str, Response]:
        template = serving.templates.loaded.get(name)
        nonce = uuid.uuid4().hex
        if template is None:
            broken = AlertError(Fault(message="the template does not load; `bridge check` says why", field=name))
            return self._refuse_invalid(name, _NO_HOME, raw, None, nonce, now, broken)
        home = self.ledger.home_of(name, template.accounts[0])
        body: Body | None = None
        try:
            body = read_body(raw)
            delivery = decide(template, body, raw, home=home, nonce=nonce, now=now, masters=self.masters())
            delivery = self._known_before(serving, delivery, body, raw)
        except (BodyError, AlertError) as error:
            return self._refuse_invalid(name, home, raw, body, nonce, now, error, template)
        enqueued = self.ledger.enqueue(delivery)
        for order in enqueued.orders:
            if order["id"] in enqueued.alarms:
                _log.error("told to a person: an order was not queued that a position may depend on", template=name,
                           order=order["id"], state=order["state"], reason=order["reason"])
        return self._answer(delivery, enqueued)

    def _known_before(self, serving: Serving, delivery: Delivery, body: Body, raw: bytes) -> Delivery:
        """A resent alert keeps the key that it was accepted by, though an edit has changed what alerts are known by."""
        if not delivery.takes_key:
            return delivery
        for until_s, template in serving.former.get(delivery.template, ()):
            key = known_key(template, body, raw) if clock.monotonic() < until_s else None
            if key and key != delivery.key and self.ledger.find_duplicate(
                    delivery.home, delivery.template, key, delivery.fingerprint):
                return replace(delivery, key=key)
        return delivery

    def _refuse_invalid(self, name: str, home: str, raw: bytes, body: Body | None, nonce: str, now: datetime,
                        error: InputError, template: Template | None = None) -> tuple[str, Response]:
        """Record an alert that makes no order and tell its sender every fault; a copy of one that did is a duplicate."""
        key = known_key(template, body, raw) if template is not None and body is not None else None
        first = self.ledger.find_duplicate(home, name, key) if key is not None else None
        if first is not None:
            _log.info("duplicate alert", template=name, duplicate_of=first.duplicate_of)
            return "duplicate", _answer({"alert": first.alert, "duplicate_of": first.duplicate_of,
                                         "orders": list(first.orders)}, 200)
        delivery = invalid(name, home, raw, body, nonce=nonce, now=now, error=error)
        self.ledger.enqueue(delivery)
        _log.warning("invalid alert", template=name, alert=delivery.id, reason=delivery.reason)
        return "invalid", _problem(error.http_status, mask(delivery.reason),
                                   errors=[{"field": fault.field, "message": mask(fault.message)}
                                           for fault in error.faults], alert=delivery.id)

    def _answer(self, delivery: Delivery, enqueued: Enqueued) -> tuple[str, Response]:
        said: dict[str, Any] = {"alert": enqueued.alert}
        if enqueued.duplicate_of:
            said["duplicate_of"] = enqueued.duplicate_of
            said["orders"] = list(enqueued.orders)
            if enqueued.conflict:
                said["conflict"] = True
                _log.error("the id of an earlier alert came again with another body; nothing was done",
                           template=delivery.template, alert=enqueued.alert, duplicate_of=enqueued.duplicate_of)
            else:
                _log.info("duplicate alert", template=delivery.template, duplicate_of=enqueued.duplicate_of)
            return "duplicate", _answer(said, 200)
        for order in enqueued.orders:
            at_receipt = order["state"] if order["state"] in STOPPED else "queued"
            self.metrics.order(order["account"], at_receipt)
            if at_receipt == "refused":
                self.metrics.refused(delivery.template, guards_in(order.get("reason", "")))
                _log.warning("order refused", template=delivery.template, order=order["id"], account=order["account"],
                             reason=order.get("reason", ""))
        state, reason = delivery.state, delivery.reason
        if state == "accepted" and enqueued.refusal:  # by limits that are counted where orders are queued
            state, reason = "refused", enqueued.refusal
        if state == "accepted":
            said["orders"] = list(enqueued.orders)
            _log.info("alert accepted", template=delivery.template, alert=enqueued.alert,
                      orders=" ".join(order.id for order in delivery.orders))
            return "accepted", _answer(said, 202)
        said[state] = reason
        said["orders"] = list(enqueued.orders)
        _log.info(f"alert {state}", template=delivery.template, alert=enqueued.alert, reason=reason)
        return state, _answer(said, 200)

    def _fault(self, error: Exception) -> Response:
        """A fault of ours: told to a person; the sender is asked to send again, for nothing was accepted."""
        _log.error("an alert could not be handled: a fault of Bridge; its sender was asked to send it again",
                   exc_info=error)
        return _unavailable("a fault of this receiver: send it again")

    # -- for those who watch -----------------------------------------------------------------------------------------

    def _ready(self) -> Response:
        status, said = self._state()
        return _answer(said, status, retry=status == 503)

    def _state(self) -> tuple[int, dict[str, Any]]:
        now = clock.monotonic()
        if self.draining.is_set():
            return 503, {"ready": False, "reason": "stopping"}
        known = self._readiness
        if known is not None and now - known[0] < _LOOK_AGAIN_S:
            return known[1], known[2]
        status, said = self._look()
        self._readiness = (now, status, said)
        return status, said

    def _look(self) -> tuple[int, dict[str, Any]]:
        serving = self._serving
        counts = _counts(serving.templates)
        said: dict[str, Any] = {"ready": True, "templates": counts["loaded"], "broken_templates": counts["broken"],
                                "stale_templates": counts["stale"]}
        if serving.accounts_changed:
            said["accounts"] = "changed since the start: restart to apply"
        if not serving.templates.loaded:
            return 503, {**said, "ready": False, "reason": "no template loaded"}
        try:
            self.ledger.check_writable()
            said["waiting_for_a_person"] = self.ledger.waiting_count(sorted(self._accounts))
        except LedgerAway as away:
            _log.error("not ready", reason=str(away))
            return 503, {**said, "ready": False, "reason": "the ledger is away or cannot be written"}
        return 200, said

    def _metrics(self) -> Response:
        try:
            self.metrics.waiting.set(self.ledger.waiting_count(sorted(self._accounts)))
        except LedgerAway as away:
            _log.warning("the orders that wait for a person could not be counted", reason=str(away))
        page, content_type = self.metrics.page()
        return Response(page, 200, [*HEADERS, ("Content-Type", content_type)])


def _counts(templates: Templates) -> dict[str, int]:
    """How many serve, how many files do not load, and how many of these serve in their last good version."""
    return {"loaded": len(templates.loaded), "broken": len(templates.faults),
            "stale": len(templates.loaded.keys() & templates.faults.keys())}


def _former(serving: Serving, templates: Templates, now_s: float) -> dict[str, tuple[tuple[float, Template], ...]]:
    """By what templates that serve no more an alert may be known that is sent again."""
    former: dict[str, tuple[tuple[float, Template], ...]] = {}
    for name, template in templates.loaded.items():
        known = [each for each in serving.former.get(name, ()) if now_s < each[0]]
        before = serving.templates.loaded.get(name)
        if before is not None and before is not template and (_names_alerts(before) or _names_alerts(template)):
            known.append((now_s + _RESENT_FOR_S, before))
        if known:
            former[name] = tuple(known[-_MOST_FORMER:])
    return former


def _names_alerts(template: Template) -> bool:
    """Whether anything but the body, as it is, makes two alerts the same."""
    return template.id is not None or template.dedupe_window_ms == 0


class _NoSessions(SessionInterface):
    """The receiver keeps none; this saves looking for cookies in every alert."""

    def open_session(self, app: Flask, request: Request) -> SessionMixin:
        return _NO_SESSION

    def is_null_session(self, obj: object) -> bool:
        return True

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Nothing to save."""


class _Nothing(dict[str, Any], SessionMixin):
    """An empty session."""


_NO_SESSION = _Nothing()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _answer(said: Mapping[str, Any], status: int, *, retry: bool = False) -> Response:
    headers = (*_JSON, ("Retry-After", "5")) if retry else _JSON
    return Response(json.dumps(said) + "\n", status, headers)


def _problem(status: int, detail: str, *, errors: list[dict[str, str]] | None = None, alert: str = "",
             headers: tuple[tuple[str, str], ...] = _PROBLEM) -> Response:
    said: dict[str, Any] = {"type": "about:blank", "title": _PHRASES.get(status, "Error"), "status": status,
                            "detail": detail, "errors": errors or []}
    if alert:
        said["alert"] = alert
    return Response(json.dumps(said) + "\n", status, headers)


def _unavailable(detail: str) -> Response:
    return _problem(503, detail, headers=_RETRY)


def _refuse(error: HTTPException) -> Response:
    """What routing refuses: another method, or no such path. Nothing of the request is repeated."""
    if error.code != 405:
        return _problem(404, "there is nothing here")
    allowed = "POST" if request.path.startswith("/hook/") else "GET, HEAD"
    return _problem(405, "this method is not allowed here", headers=(*_PROBLEM, ("Allow", allowed)))
