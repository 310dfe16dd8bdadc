"""Whether a process does its work: its loop turns, and bus and store answer."""

import logging
import signal
import threading
import time
from collections.abc import Callable

FRESH = 4.0  # seconds a beat is good for


class Pulse:
    """The main loop calls beat about once a second; health reads the result,
    so a loop that hangs is as unhealthy as a bus that is gone."""

    def __init__(self, checks: dict[str, Callable[[], None]]):
        self._checks = checks
        self._results = {name: "not tried yet" for name in checks}
        self._last = float("-inf")
        self._lock = threading.Lock()

    def beat(self) -> bool:
        """Runs the checks; reports whether all passed."""
        results = {name: _try(check) for name, check in self._checks.items()}
        with self._lock:
            for name, result in results.items():
                if result != self._results[name]:
                    logging.info("%s: %s", name, result)
            self._results, self._last = results, time.monotonic()
        return all(result == "ok" for result in results.values())

    def report(self) -> tuple[bool, dict]:
        with self._lock:
            age = time.monotonic() - self._last
            turning = age < FRESH
            healthy = turning and all(r == "ok" for r in self._results.values())
            return healthy, {"loop": "ok" if turning else "stopped", **self._results}


def _try(check: Callable[[], None]) -> str:
    try:
        check()
        return "ok"
    except Exception as error:  # whatever is wrong with it, it does not answer
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def until_told() -> threading.Event:
    """Gives an event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def handle(number, _frame):
        logging.info("%s: draining", signal.Signals(number).name)
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop
