"""The executor: takes planned tasks from the bus and works through their steps."""

import logging
import threading
import time

from agent import bus, library, logs, pulse, store, web
from agent.operations import OPERATIONS
from agent.settings import HEALTH_PORT, Settings
from agent.window import Windows

WAIT = 0.5  # seconds on the bus: a signal is noticed within that


class Executor:
    def __init__(self, settings: Settings):
        self._library = library.load(settings.configuration)
        self._bus = bus.Bus(settings.bus_host)
        self._store = store.Store(
            settings.store_host, settings.store_user, settings.store_password, settings.store_database
        )
        self._windows = Windows()
        self._pulse = pulse.Pulse({"bus": self._bus.ping, "store": self._store.ping})

    def routes(self) -> list[web.Route]:
        return [web.Route("GET", "/health", self._health)]

    def run(self, server: web.Server) -> None:
        """Works until told to stop; a task in hand is put back with its progress."""
        stop = pulse.until_told()
        server.start()
        beaten, well = float("-inf"), False
        while not stop.is_set():
            if time.monotonic() - beaten >= 1.0:
                well, beaten = self._pulse.beat(), time.monotonic()
            if not well:
                stop.wait(1.0)
                continue
            try:
                task = self._bus.take(WAIT)
                if task:
                    self._work(task, stop)
            except (store.Error, bus.Error) as error:
                logging.warning("working: %s", error)
                well = False
        server.drain()
        self._store.close()

    def _work(self, task: str, stop: threading.Event) -> None:
        claimed = self._store.claim(task)
        if claimed is None:  # offered twice, or another executor was faster
            return
        results = list(claimed["results"])
        try:
            for step in claimed["plan"][len(results) :]:
                if stop.is_set():
                    self._store.save(task, "queued", results)
                    self._bus.offer(task)
                    logging.info("checkpoint: task %s after %d steps", task, len(results))
                    return
                results.append(self._step(claimed["goal"], step, results))
            self._store.save(task, "done", results)
        except (KeyError, ValueError) as error:
            logging.error("task %s: %s", task, error)
            self._store.save(task, "failed", results)

    def _step(self, goal: str, step: dict, results: list[str]) -> str:
        """Does one step as a runtime would: open its window, then act."""
        skill = self._library.skills[step["skill"]]
        asked = self._library.prompts["execute"].body
        asked = asked.replace("{skill}", skill.body).replace("{goal}", goal)
        self._windows.open("\n".join([asked, *results]))
        return OPERATIONS[step["operation"]](step["input"])

    def _health(self, _rest: str, _body: dict) -> tuple[int, dict]:
        healthy, parts = self._pulse.report()
        return (200 if healthy else 503), parts


def main() -> int:
    settings = Settings.read()
    logs.configure(settings.log_level)
    try:
        executor = Executor(settings)
    except (ValueError, OSError) as error:
        logging.error("starting: %s", error)
        return 1
    executor.run(web.Server(("127.0.0.1", HEALTH_PORT), executor.routes()))
    logging.info("stopped")
    return 0
