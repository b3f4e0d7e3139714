"""Pine code that makes a template's message, for scripts that call alert() themselves. Pine v5 and v6.

What the chart knows is read from it (`close`, `syminfo.ticker`, `timenow`); what only the script knows is a parameter of
the function. Texts that the script gives are escaped, so that a quote in one of them cannot break the JSON around it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from bridge.fields import Declared

_TIME = "str.format_time({}, \"yyyy-MM-dd'T'HH:mm:ss'Z'\", \"UTC\")"
_CHART: Mapping[str, str] = {
    "{{ticker}}": "syminfo.ticker", "{{exchange}}": "syminfo.prefix", "{{interval}}": "timeframe.period",
    **{f"{{{{{name}}}}}": f"str.tostring({name})" for name in ("open", "high", "low", "close", "volume")},
    "{{time}}": _TIME.format("time"), "{{timenow}}": _TIME.format("timenow"),
    "{{syminfo.currency}}": "syminfo.currency", "{{syminfo.basecurrency}}": "syminfo.basecurrency",
    "{{strategy.position_size}}": "str.tostring(strategy.position_size)",
    "{{strategy.market_position_size}}": "str.tostring(math.abs(strategy.position_size))",
    "{{strategy.market_position}}":
        'strategy.position_size > 0 ? "long" : strategy.position_size < 0 ? "short" : "flat"'}
"""What of the chart (and of the script, where it is a strategy) stands for a placeholder."""
_NUMBERS = ("integer", "number")
_TAKEN = frozenset("""and or not if else for while switch to by in var varip import export method type enum true false na
open high low close volume time timenow bar_index hl2 hlc3 ohlc4 alert order strategy string float int bool color line
label table box array matrix map math ta str input request syminfo timeframe ticker m""".split())
"""Words that mean something to Pine, or to the code below."""
_ESCAPE = r"""bridge_text(string value) =>
    str.replace_all(str.replace_all(str.replace_all(value, "\\", "\\\\"), "\"", "\\\""), "\n", " ")

"""


def pine_code(text: str, fields: Mapping[str, tuple[Declared, str]], *, in_json: bool, side: str = "buy") -> str:
    """The function `bridge_message` and how it is called.

    `text` is the message with {{field:NAME}} where a field's value goes; `fields` gives each with what TradingView would
    put there; `side` is how a buy is said.
    """
    parameters: dict[str, str] = {}
    lines: list[str] = []
    for number, piece in enumerate(re.split(r"\{\{field:(\w+)\}\}", text)):
        if number % 2:
            lines.append(_value_of(*fields[piece], parameters, in_json=in_json))
        elif piece:
            lines.append(_literal(piece))
    signature = ", ".join(f"{kind} {name}" for name, kind in parameters.items())
    body = "\n".join(f"    m += {line}" for line in lines[1:])
    call = ", ".join(_sample(kind, name, fields, side) for name, kind in parameters.items())
    first = lines[0] if lines else '""'
    return (f"{_ESCAPE if 'bridge_text(' in body else ''}bridge_message({signature}) =>\n    string m = {first}\n"
            + (f"{body}\n" if body else "") + "    m\n\n// For example:\n// if ta.crossover(ta.sma(close, 10), ta.sma(close, "
            f"30))\n//     alert(bridge_message({call}), alert.freq_once_per_bar_close)")


def _sample(kind: str, name: str, fields: Mapping[str, tuple[Declared, str]], side: str) -> str:
    """What stands for a parameter in the example."""
    field = fields[name if name in fields else name[:-1]][0]
    if kind != "string":
        return "1" if kind == "float" else "true"
    return f'"{side}"' if field.type == "side" else f'"{field.examples[0]}"' if field.examples else '"Long"'


def _value_of(field: Declared, placeholder: str, parameters: dict[str, str], *, in_json: bool) -> str:
    """The Pine expression of a field's value, as text."""
    wanted = re.sub(r"\s", "", placeholder)
    if wanted in _CHART:
        found = _CHART[wanted]
        return f"({found})" if "?" in found else found
    words = set(field.examples) or ({"buy", "sell"} if field.type == "side" else set())
    if "{{" not in placeholder and field.tradingview is not None and placeholder not in words:
        return _literal(placeholder)
    name = f"{field.name}_" if field.name in _TAKEN else field.name
    parameters[name] = "float" if field.type in _NUMBERS else "bool" if field.type == "bool" else "string"
    if parameters[name] == "string":
        return f"bridge_text({name})" if in_json else name
    return f"str.tostring({name})" if parameters[name] == "float" else f'({name} ? "true" : "false")'


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
