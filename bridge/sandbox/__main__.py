"""`python -m bridge.sandbox --bind HOST:PORT`."""

from __future__ import annotations

import argparse
import sys

from . import serve


def main() -> int:
    parser = argparse.ArgumentParser(prog="bridge.sandbox", description="Paper brokers for testing and practice.")
    parser.add_argument("--bind", default="127.0.0.1:8082", metavar="HOST:PORT")
    host, _, port = parser.parse_args().bind.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        parser.error("--bind takes HOST:PORT")
    try:
        serve(
            host.strip("[]"),
            int(port),
            ready=lambda taken: print(f"sandbox on http://{host}:{taken}", flush=True),
        )
    except OSError as error:
        print(f"cannot serve on {host}:{port}: {error.strerror or error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
