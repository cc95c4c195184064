"""How much one person may ask.

Here: requests a minute, and queries at once, counted in this process. Not here: the limits of one query
(`warehouse.gateway`).
"""

from __future__ import annotations

import math
import threading
import time

BURST_SECONDS = 10.0
"""So many seconds' worth of requests may come at once."""
MOST_KEYS = 10_000
"""Askers that are remembered; those who could ask at full rate again are forgotten first."""


class TooMany(Exception):
    """The asker has to wait; `retry_seconds` says how long."""

    def __init__(self, text: str, retry_seconds: int) -> None:
        super().__init__(text)
        self.retry_seconds = retry_seconds


class Limits:
    """Token buckets and counters, by asker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}
        self._running: dict[str, int] = {}

    def count(self, key: str, per_minute: float) -> None:
        """Count one request. Raises TooMany when the asker has none left."""
        rate = per_minute / 60
        most = max(1.0, rate * BURST_SECONDS)
        now = time.monotonic()
        with self._lock:
            left, since = self._buckets.get(key, (most, now))
            left = min(most, left + (now - since) * rate)
            if left < 1:
                raise TooMany("You ask too often; wait and try again", math.ceil((1 - left) / rate))
            self._buckets[key] = (left - 1, now)
            if len(self._buckets) > MOST_KEYS:
                over = now - BURST_SECONDS
                self._buckets = {name: kept for name, kept in self._buckets.items() if kept[1] > over}

    def begin(self, key: str, most: int) -> None:
        """Take one of the asker's places. Raises TooMany when all are taken."""
        with self._lock:
            running = self._running.get(key, 0)
            if running >= most:
                raise TooMany(f"You have {most} queries running already; wait for one to end", 1)
            self._running[key] = running + 1

    def end(self, key: str) -> None:
        """Give a place back."""
        with self._lock:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key]
