"""Sends alerts as TradingView does: gives up after three seconds, sends again on a 5xx or on silence, three times."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

from tests.soak.book import Sent, Try
from tests.soak.plan import Planned

_GIVE_UP_S, _AGAIN_S, _TIMES_AGAIN = 3.0, 5.0, 3


class Sender:
    """Sends alerts on connections of their own and keeps the book. `scale` shortens TradingView's times."""

    def __init__(self, port: int, secret: str, *, scale: float = 1.0) -> None:
        self._port, self._secret = port, secret
        self._give_up_s, self._again_s = _GIVE_UP_S * scale, _AGAIN_S * scale
        self._threads = ThreadPoolExecutor(64, thread_name_prefix="sender")
        self._doing: list[Future[None]] = []
        self._stop = threading.Event()
        self.book: list[Sent] = []

    def send(self, planned: Planned) -> Sent:
        """Begin to send an alert, and its twin where it has one; returns at once."""
        now = time.time()
        sent = Sent(planned, now)
        self.book.append(sent)
        body = planned.body(datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"))
        sent.sent_at = int(now * 1000) / 1000  # as the body says it
        if planned.twin_after_s == 0.0:
            together = threading.Barrier(2)
            self._begin(sent, body, 0.0, together)
            self._begin(sent, body, 0.0, together)
            return sent
        self._begin(sent, body, 0.0, None, hangs_up=planned.hangs_up)
        if planned.twin_after_s is not None:
            self._begin(sent, body, planned.twin_after_s, None)
        return sent

    def wait(self, seconds: float) -> None:
        """Until every alert was answered or given up; raises TimeoutError."""
        ends_at = time.monotonic() + seconds
        for each in self._doing:
            each.result(max(0.01, ends_at - time.monotonic()))
        self._doing.clear()

    def close(self) -> None:
        """Stop sending."""
        self._stop.set()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def busy(self) -> int:
        """How many alerts are still being sent."""
        self._doing = [each for each in self._doing if not each.done() or each.exception()]
        return len(self._doing)

    def _begin(self, sent: Sent, body: str, after_s: float, together: threading.Barrier | None,
               hangs_up: bool = False) -> None:
        first = Try(time.time() + after_s)  # known before the thread runs: Bridge cannot receive it earlier
        sent.tries.append(first)
        self._doing.append(self._threads.submit(self._deliver, sent, body, after_s, together, hangs_up, first))

    def _deliver(self, sent: Sent, body: str, after_s: float, together: threading.Barrier | None, hangs_up: bool,
                 first: Try) -> None:
        self._stop.wait(after_s)
        if together is not None:
            together.wait(20)
        for number in range(1 + _TIMES_AGAIN):
            if number:
                self._stop.wait(self._again_s)
                first = Try(time.time())
                sent.tries.append(first)
            if self._stop.is_set():
                first.ended, first.fault = time.time(), "the run was stopped"
                return
            self._post(sent.planned.template, body, first, hangs_up=hangs_up and number == 0)
            if first.status is not None and first.status < 500:
                return

    def _post(self, template: str, body: str, this: Try, *, hangs_up: bool) -> None:
        path, data = f"/hook/{template}/{self._secret}", body.encode()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._give_up_s)
        try:
            connection.connect()
            if connection.sock is not None:
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.request("POST", path, data, {"Content-Type": "application/json"})
            if hangs_up:
                this.fault = "the sender hung up without waiting for an answer"
                return
            response = connection.getresponse()
            text = response.read()
            this.status = response.status
            found = json.loads(text) if text else {}
            this.answer = found if isinstance(found, dict) else {}
        except (OSError, http.client.HTTPException, ValueError) as error:
            this.fault = f"{type(error).__name__}: {error}"
        finally:
            this.ended = time.time()
            connection.close()
