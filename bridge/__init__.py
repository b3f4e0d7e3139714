"""Bridge: a webhook alert becomes an order at a broker, once, in time, and never silently."""

__version__ = "0.1.0"
