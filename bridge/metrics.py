"""Prometheus metrics of the receiver. Names begin with `bridge_`; labels are template names that loaded and fixed words.

With several receiver processes the figures of all of them are added up, through files in a folder that the environment
names before this module is imported (see `bridge.process.share_metrics`): the library decides at its import.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from bridge.process import METRICS_FOLDER

OUTCOMES = ("accepted", "duplicate", "skipped", "refused", "invalid", "unavailable", "too_large", "too_slow")


class Metrics:
    """The figures of one receiver process."""

    def __init__(self, templates: tuple[str, ...] = ()) -> None:
        self.registry = CollectorRegistry()
        self.shared = os.environ.get(METRICS_FOLDER, "")
        self._alerts = Counter("bridge_alerts_total", "Alerts with a right secret, by what became of them.",
                               ["template", "outcome"], registry=self.registry)
        self._orders = Counter("bridge_alert_orders_total", "Orders that alerts made, by their state at receipt.",
                               ["account", "state"], registry=self.registry)
        self._refused = Counter("bridge_orders_refused_total", "Orders that a guard refused, or whose size came to nothing "
                                "(size).", ["template", "guard"], registry=self.registry)
        self._strangers = Counter("bridge_wrong_secret_total", "Requests with a wrong secret or an unknown template.",
                                  ["answer"], registry=self.registry)
        self._answer = Histogram("bridge_answer_seconds", "From a request's head to its answer.", registry=self.registry,
                                 buckets=(.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 3, 5))
        self.templates = Gauge("bridge_templates", "Templates that serve (loaded), that do not load (broken), and those of "
                               "the broken that serve in their last good version (stale).", ["state"], registry=self.registry,
                               multiprocess_mode="mostrecent")
        self.waiting = Gauge("bridge_orders_waiting", "Orders that wait for a person.", registry=self.registry,
                             multiprocess_mode="mostrecent")
        self._alert_counters: dict[tuple[str, str], Counter] = {}
        self.know(templates)
        for answer in ("404", "429"):
            self._strangers.labels(answer)

    def know(self, templates: Iterable[str]) -> None:
        """Count these templates by their names from now on. One that is gone keeps its figures."""
        for template in templates:
            for outcome in OUTCOMES:
                if (template, outcome) not in self._alert_counters:
                    self._alert_counters[template, outcome] = self._alerts.labels(template, outcome)

    def alert(self, template: str, outcome: str, seconds: float) -> None:
        """Count an alert of a template that loaded (others go under an empty name)."""
        counter = self._alert_counters.get((template, outcome))
        (counter or self._alerts.labels("", outcome)).inc()
        self._answer.observe(seconds)

    def order(self, account: str, state: str) -> None:
        """Count an order of an alert."""
        self._orders.labels(account, state).inc()

    def refused(self, template: str, guards: Iterable[str]) -> None:
        """Count an order of a template that loaded, once for each guard that refused it."""
        for guard in guards:
            self._refused.labels(template, guard).inc()

    def stranger(self, answer: str) -> None:
        """Count a request that did not know the secret."""
        self._strangers.labels(answer).inc()

    def page(self) -> tuple[bytes, str]:
        """What `/metrics` answers, with its content type."""
        registry = self.registry
        if self.shared:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=self.shared)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST


def forget_process(pid: int) -> None:
    """Drop the gauges of a process that ended; its counts stay."""
    if os.environ.get(METRICS_FOLDER):
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
