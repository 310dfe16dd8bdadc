"""The store: tasks and their progress in PostgreSQL."""

import threading

import psycopg2
import psycopg2.extras

Error = psycopg2.Error

LEASE = "30 seconds"  # a running task that nobody touched so long is up for grabs

SCHEMA = """
CREATE TABLE IF NOT EXISTS task (
  id      uuid PRIMARY KEY,
  goal    text NOT NULL,
  plan    jsonb NOT NULL,
  prompts text NOT NULL,
  state   text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed')),
  results jsonb NOT NULL DEFAULT '[]',
  created timestamptz NOT NULL DEFAULT now(),
  changed timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS task_unfinished ON task (changed) WHERE state IN ('queued', 'running');
CREATE INDEX IF NOT EXISTS task_created ON task (created);
"""


class Store:
    """One connection, shared by the process's threads and renewed when it broke."""

    def __init__(self, host: str, user: str, password: str, database: str):
        self._parameters = {
            "host": host,
            "user": user,
            "password": password,
            "dbname": database,
            "connect_timeout": 2,
            "options": "-c statement_timeout=3000",
        }
        self._lock = threading.Lock()
        self._connection = None

    def prepare(self) -> None:
        """Creates what is missing; two processes may do it at once."""
        self._run("SELECT pg_advisory_xact_lock(20250101); " + SCHEMA, fetch=False)

    def ping(self) -> None:
        self._run("SELECT 1")

    def add(self, task: str, goal: str, plan: list[dict], prompts: str) -> None:
        """Records a queued task; repeating it changes nothing."""
        self._run(
            "INSERT INTO task (id, goal, plan, prompts) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (task, goal, psycopg2.extras.Json(plan), prompts),
            fetch=False,
        )

    def get(self, task: str) -> dict | None:
        rows = self._run(
            "SELECT id::text, goal, plan, prompts, state, results FROM task WHERE id = %s", (task,)
        )
        return dict(rows[0]) if rows else None

    def claim(self, task: str) -> dict | None:
        """Makes a task ours if it is queued or its worker is gone."""
        rows = self._run(
            "UPDATE task SET state = 'running', changed = now() WHERE id = %s AND"
            " (state = 'queued' OR state = 'running' AND changed < now() - %s::interval)"
            " RETURNING id::text, goal, plan, results",
            (task, LEASE),
        )
        return dict(rows[0]) if rows else None

    def save(self, task: str, state: str, results: list[str]) -> None:
        """Records progress: running after a step, queued as a checkpoint, done, failed."""
        self._run(
            "UPDATE task SET state = %s, results = %s, changed = now() WHERE id = %s",
            (state, psycopg2.extras.Json(results), task),
            fetch=False,
        )

    def waiting(self, most: int) -> list[str]:
        """Gives tasks that should have been worked on by now, oldest first."""
        rows = self._run(
            "SELECT id::text FROM task WHERE state = 'queued' AND changed < now() - interval '2 seconds'"
            " OR state = 'running' AND changed < now() - %s::interval ORDER BY changed LIMIT %s",
            (LEASE, most),
        )
        return [row["id"] for row in rows]

    def forget(self, kept: int) -> None:
        """Deletes finished tasks but the newest so many."""
        self._run(
            "DELETE FROM task WHERE state IN ('done', 'failed') AND created <"
            " (SELECT created FROM task ORDER BY created DESC OFFSET %s LIMIT 1)",
            (kept,),
            fetch=False,
        )

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _run(self, statement: str, arguments=(), fetch=True):
        with self._lock:
            fresh = self._connection is None
            try:
                return self._attempt(statement, arguments, fetch)
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                self._drop()
                if fresh:
                    raise
            # The old connection was broken, the store may be well.
            return self._attempt(statement, arguments, fetch)

    def _attempt(self, statement: str, arguments, fetch: bool):
        if self._connection is None:
            self._connection = psycopg2.connect(**self._parameters)
        rows = psycopg2.extras.RealDictCursor
        with self._connection, self._connection.cursor(cursor_factory=rows) as cursor:
            cursor.execute(statement, arguments or None)
            return cursor.fetchall() if fetch else None

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
