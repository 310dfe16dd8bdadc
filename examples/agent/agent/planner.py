"""The planner: takes goals over HTTP, plans them, and keeps the agent's memory."""

import logging
import urllib.parse
import uuid

from agent import __version__, bus, library, logs, memory, planning, pulse, store, web
from agent.settings import HEALTH_PORT, Settings

MAX_GOAL = 8 * 1024
KEPT_TASKS = 5_000
DEFAULT_GOAL = "Summarise what this agent can do"


class Planner:
    def __init__(self, settings: Settings):
        self._library = library.load(settings.configuration)
        self._planner = planning.make(self._library, settings.model)
        self._model = settings.model
        self._bus = bus.Bus(settings.bus_host)
        self._store = store.Store(
            settings.store_host, settings.store_user, settings.store_password, settings.store_database
        )
        self._memory = memory.Memory(settings.memory)
        self._pulse = pulse.Pulse({"bus": self._bus.ping, "store": self._store.ping})
        logging.info("memory %s, %d things known", self._memory.identity, self._memory.known())

    def routes(self) -> list[web.Route]:
        return [
            web.Route("GET", "/health", self._health),
            web.Route("GET", "/version", self._version),
            web.Route("POST", "/task", self._take),
            web.Route("GET", "/task/", self._show),
            web.Route("POST", "/learn", self._learn),
            web.Route("GET", "/recall/", self._recall),
            web.Route("GET", "/memory", self._describe),
        ]

    def run(self, server: web.Server) -> None:
        """Works until told to stop, then drains: requests, memory, connections."""
        stop = pulse.until_told()
        server.start()
        prepared, turns = False, 0
        while not stop.is_set():
            if self._pulse.beat():
                prepared = prepared or self._prepare()
                if prepared and turns % 5 == 0:
                    self._tidy()
                turns += 1
            stop.wait(1.0)
        server.drain()
        self._memory.close()
        self._store.close()

    def _prepare(self) -> bool:
        try:
            self._store.prepare()
            return True
        except store.Error as error:
            logging.warning("preparing the store: %s", error)
            return False

    def _tidy(self) -> None:
        """Offers again what the bus lost, forgets what nobody asks for any more."""
        try:
            for task in self._store.waiting(100):
                self._bus.offer(task)
            self._store.forget(KEPT_TASKS)
        except (store.Error, bus.Error) as error:
            logging.warning("tidying: %s", error)

    def _health(self, _rest: str, _body: dict) -> tuple[int, dict]:
        healthy, parts = self._pulse.report()
        return (200 if healthy else 503), parts

    def _version(self, _rest: str, _body: dict) -> tuple[int, dict]:
        return 200, {
            "version": __version__,
            "model": self._model,
            "prompts": self._library.prompts_digest,
            "skills": self._library.skills_digest,
        }

    def _take(self, _rest: str, body: dict) -> tuple[int, dict]:
        goal = web.text(body, "goal", MAX_GOAL, DEFAULT_GOAL)
        asked = planning.prompt(self._library, goal)
        steps = self._planner.plan(asked, goal, self._library.skills)
        task = str(uuid.uuid4())
        self._store.add(task, goal, [s.as_dict() for s in steps], self._library.prompts_digest)
        try:
            self._bus.offer(task)
        except bus.Error as error:  # it is in the store: tidying offers it again
            logging.warning("offering %s: %s", task, error)
        return 202, {"id": task, "steps": [s.skill for s in steps]}

    def _show(self, rest: str, _body: dict) -> tuple[int, dict]:
        try:
            found = self._store.get(str(uuid.UUID(rest)))
        except ValueError:
            raise web.Refused(400, "a task's id is a UUID") from None
        if found is None:
            raise web.Refused(404, f"no task {rest}")
        return 200, found

    def _learn(self, _rest: str, body: dict) -> tuple[int, dict]:
        key = web.text(body, "key", memory.MAX_KEY)
        try:
            self._memory.learn(key, web.text(body, "value", memory.MAX_VALUE))
        except memory.Full as full:
            raise web.Refused(507, str(full)) from full
        return 200, {"learned": key, "known": self._memory.known()}

    def _recall(self, rest: str, _body: dict) -> tuple[int, dict]:
        key = urllib.parse.unquote(rest)
        value = self._memory.recall(key)
        if value is None:
            raise web.Refused(404, f"nothing known about {key!r}")
        return 200, {"key": key, "value": value}

    def _describe(self, _rest: str, _body: dict) -> tuple[int, dict]:
        return 200, {"identity": self._memory.identity, "known": self._memory.known()}


def main() -> int:
    settings = Settings.read()
    logs.configure(settings.log_level)
    try:
        planner = Planner(settings)
    except (ValueError, OSError, memory.Damaged) as error:
        logging.error("starting: %s", error)
        return 1
    planner.run(web.Server(("0.0.0.0", HEALTH_PORT), planner.routes()))
    logging.info("stopped")
    return 0
