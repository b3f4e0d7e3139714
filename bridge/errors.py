"""Every error that Bridge raises for somebody to act on.

    BridgeError
    ├── InputError            the author of the input acts: alert, template, accounts file, command
    │   ├── BodyError         an alert's body cannot be read                     HTTP 400
    │   ├── AlertError        a field or an order rule is broken                 HTTP 422
    │   └── FileFaults        a template or accounts file is wrong: all its faults together
    ├── SettingsError         the operator acts: a BRIDGE_* setting is wrong
    └── ServiceError          something outside is away: try again later         HTTP 503
        ├── LedgerAway        Redis cannot be reached, or cannot write
        └── MasterAwaited     a broker's list of instruments is just being loaded

Each says what was wrong, where and what was expected. None carries a secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

EXIT_DONE, EXIT_INPUT, EXIT_USAGE, EXIT_SERVICE = 0, 1, 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong with an input.

    `field` is a dotted path (`order.stop_loss.ticks`) or an alert's field name; `line` and `column` count from 1 and
    are 0 where the input is not a file. `name` is a warning's.
    """

    message: str
    field: str = ""
    name: str = ""
    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: " if self.file else ""
        return f"{where}{self.field}: {self.message}" if self.field else f"{where}{self.message}"

    def to_json(self) -> dict[str, str | int]:
        """The parts that are known, for problem details and `--json`."""
        known: dict[str, str | int] = {"message": self.message}
        for name in ("name", "field", "file", "line", "column"):
            if value := getattr(self, name):
                known[name] = value
        return known


class BridgeError(Exception):
    """The root: what went wrong in words, with the exit code and HTTP status that suit it."""

    exit_code = EXIT_INPUT
    http_status = 500


class InputError(BridgeError):
    """The input is at fault; nothing was done."""

    http_status = 422

    def __init__(self, faults: str | Fault | Iterable[Fault]) -> None:
        if isinstance(faults, str):
            faults = Fault(message=faults)
        self.faults: tuple[Fault, ...] = (faults,) if isinstance(faults, Fault) else tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class BodyError(InputError):
    """An alert's body is neither a JSON object, nor pairs, nor text that the template can take apart."""

    http_status = 400


class AlertError(InputError):
    """An alert was read, but a field or a rule of the order is broken; every fault is listed."""


class FileFaults(InputError):
    """A template or accounts file that does not load; every fault is listed."""


class SettingsError(BridgeError):
    """A BRIDGE_* setting is missing or wrong; the message names it and never shows a secret's value."""


class ServiceError(BridgeError):
    """A service that is needed could not be reached."""

    exit_code = EXIT_SERVICE
    http_status = 503


class LedgerAway(ServiceError):
    """Redis cannot be reached or cannot write: nothing was accepted, asking again is safe."""


class MasterAwaited(ServiceError):
    """A broker's instrument master is being loaded, so a symbol can't be looked up yet: asking again soon will do."""


class DamagedRecord(BridgeError):
    """What the ledger gave back is not what was written: it is told to a person and never traded."""
