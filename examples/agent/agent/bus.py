"""The bus: a Redis list of task numbers that are ready to be worked on.

It only carries hints. The store knows every task, so a bus that loses its
contents delays work and loses none.
"""

import redis

KEY = "agent:ready"
MOST = 10_000


class Bus:
    def __init__(self, host: str):
        self._redis = redis.Redis(
            host=host, socket_connect_timeout=1, socket_timeout=2, decode_responses=True
        )

    def ping(self) -> None:
        self._redis.ping()

    def offer(self, task: str) -> None:
        """Announces a task. Offering it twice is harmless."""
        with self._redis.pipeline(transaction=True) as batch:
            batch.lpush(KEY, task)
            batch.ltrim(KEY, 0, MOST - 1)
            batch.execute()

    def take(self, seconds: float) -> str | None:
        """Waits for a task at most so long."""
        taken = self._redis.brpop([KEY], timeout=seconds)
        return taken[1] if taken else None


Error = redis.RedisError
