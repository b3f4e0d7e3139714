"""The registry of brokers: one line for each file in this folder."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bridge.broker import Broker
from bridge.brokers.crosstrade import CrossTrade
from bridge.brokers.pocketful import Pocketful
from bridge.brokers.tradovate import Tradovate

BROKERS: Mapping[str, Broker] = MappingProxyType({each.name: each for each in (Tradovate(), CrossTrade(), Pocketful())})
