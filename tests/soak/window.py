"""How long the window is that no look can close: from the sender's last look to the moment its bytes are on the wire.

A worker that is stopped right there sends an order when it goes on, however late. Measured over real sends on the
loopback, through the very transport and with the very checks that a worker uses: from before the clock is read for the
look until the system has taken the last byte (a whole order leaves in one write).

    python -m tests.soak.window [--sends 2000] [--json]
"""

from __future__ import annotations

import argparse
import http.server
import json
import multiprocessing
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bridge.attempt import Ownership, Run, Sender
from bridge.call import Call, Reply
from bridge.clock import monotonic
from bridge.ledger import Lease, Stored
from bridge.settings import read_settings
from bridge.transport import Transport

ORDER = {"accountSpec": "DEMO123456", "accountId": 123456, "action": "Buy", "symbol": "ESZ6", "orderQty": 1,
         "orderType": "Limit", "price": 5300.25, "timeInForce": "Day", "isAutomated": True, "clOrdId": "b" * 26}


class _Broker(http.server.BaseHTTPRequestHandler):
    """Takes every order."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read it and say yes, in one write."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"id\":1}")

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@contextmanager
def _server(context: ssl.SSLContext | None = None) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Broker)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    # A process of its own: a thread here would be measured too, whenever the sender waits for it to pause.
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    server.server_close()
    try:
        yield server.server_port
    finally:
        process.kill()
        process.join()


@contextmanager
def plain_server() -> Iterator[str]:
    """A broker's server; its URL."""
    with _server() as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def tls_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """The same over TLS: its URL and the certificate that it is known by."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, True, False, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256()))
    authority, secret = folder / "authority.pem", folder / "key.pem"
    authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                         serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, secret)
    with _server(context) as port:
        yield f"https://127.0.0.1:{port}", authority


def trusting(transport: Transport, authority: Path) -> Transport:
    """The transport, which now takes this authority's certificates."""
    transport._http.verify = str(authority)
    return transport


@contextmanager
def _told_when_written(last_byte_at: list[int]) -> Iterator[None]:
    """Note when each write to a socket has returned."""
    originals = {kind: kind.sendall for kind in (socket.socket, ssl.SSLSocket)}
    mine = threading.get_ident()
    for kind, send in originals.items():
        def sendall(self: Any, data: Any, *flags: Any, _send: Any = send) -> None:
            _send(self, data, *flags)
            if threading.get_ident() == mine:
                last_byte_at.append(time.monotonic_ns())

        kind.sendall = sendall  # type: ignore[assignment]
    try:
        yield
    finally:
        for kind, send in originals.items():
            kind.sendall = send  # type: ignore[method-assign]


def measure(transport: Transport, url: str, sends: int) -> list[float]:
    """The window of each send, in microseconds."""
    session = cast("Any", SimpleNamespace(account=SimpleNamespace(name="measured")))
    sender = Sender(cast("Any", None), session, read_settings({}), threading.Event())
    own = Ownership(Lease(account="measured", owner="me", fence=1, now_ms=0), monotonic() + 1e6)
    order = Call(operation="placeorder", method="POST", url=f"{url}/v1/order/placeorder", step="entry", write=True,
                 body=ORDER, headers={"Authorization": "Bearer " + "t" * 600})
    written_at: list[int] = []
    found = []
    with _told_when_written(written_at):
        for number in range(sends + 50):
            run = Run(cast("Stored", SimpleNamespace(order=SimpleNamespace(is_exit=False))), 0, 1,
                      send_ends_at=monotonic() + 5)
            last_look, looked_at = sender._last_look(own, run, order), [0]

            def look(look: Any = last_look, at: list[int] = looked_at) -> None:
                at[0] = time.monotonic_ns()
                look()

            written_at.clear()
            reply = transport.send(order, look)
            if not isinstance(reply, Reply) or reply.status != 200:
                raise RuntimeError(f"an order did not arrive: {reply}")
            if number >= 50:  # the first ones warm up what a worker has long warmed up
                found.append((written_at[-1] - looked_at[0]) / 1000)
    return found


def figures(windows: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the longest, in microseconds."""
    ordered = sorted(windows)
    return {"sends": len(ordered), "p50_us": round(ordered[len(ordered) // 2], 1),
            "p99_us": round(ordered[int(len(ordered) * 0.99)], 1), "max_us": round(ordered[-1], 1)}


def main() -> int:
    """Measure over HTTP and over TLS, and print both."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.window", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sends", type=int, default=2000, help="orders to send over each (2000)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    given = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    with plain_server() as url:
        transport = Transport(5.0)
        rows["http"] = figures(measure(transport, url, given.sends))
        transport.close()
    with tempfile.TemporaryDirectory(prefix="bridge-window-") as folder, tls_server(Path(folder)) as (url, authority):
        transport = trusting(Transport(5.0), authority)
        rows["https"] = figures(measure(transport, url, given.sends))
        transport.close()
    if given.json:
        print(json.dumps(rows, indent=1))
        return 0
    print("from the last look to the last byte on the wire, in microseconds, over the loopback")
    for name, row in rows.items():
        print(f"{name:<6} {row['sends']:>6} sends   p50 {row['p50_us']:>8.1f}   p99 {row['p99_us']:>8.1f}   "
              f"max {row['max_us']:>8.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
