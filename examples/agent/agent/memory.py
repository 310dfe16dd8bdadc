"""What the agent learned, in a directory that outlives the container.

A snapshot (memory.json) and a journal of what was learned since. Learning is
on disk before it is answered; a checkpoint folds the journal into the
snapshot. The snapshot's identity is drawn once, when the directory is empty:
an agent with another identity woke up with another memory.
"""

import fcntl
import json
import os
import threading
import time
import uuid
from pathlib import Path

MAX_KEY = 256
MAX_VALUE = 16 * 1024
MAX_THINGS = 10_000


class Damaged(Exception):
    """The memory cannot be read. Nothing was changed."""


class Full(Exception):
    """The memory holds as much as it may."""


class Memory:
    def __init__(self, directory: Path, patience: float = 10.0):
        """Opens the memory; waits so many seconds for another process to let go."""
        self._directory = directory
        self._lock = threading.Lock()
        self._owner = _own(directory / "lock", patience)
        self._snapshot = directory / "memory.json"
        self.identity, self._things = self._load_snapshot()
        self._journal = self._replay(directory / "journal.jsonl")
        self.checkpoint()

    def learn(self, key: str, value: str) -> None:
        """Remembers a value, durably."""
        with self._lock:
            if key not in self._things and len(self._things) >= MAX_THINGS:
                raise Full(f"{MAX_THINGS} things are known")
            line = json.dumps({"key": key, "value": value}) + "\n"
            self._journal.write(line.encode())
            _flush(self._journal)
            self._things[key] = value

    def recall(self, key: str) -> str | None:
        with self._lock:
            return self._things.get(key)

    def known(self) -> int:
        with self._lock:
            return len(self._things)

    def checkpoint(self) -> None:
        """Writes a snapshot and empties the journal. A crash between the two
        only means that the journal is replayed onto what it already became."""
        with self._lock:
            content = json.dumps({"identity": self.identity, "things": self._things}, indent=1)
            part = self._snapshot.with_suffix(".part")
            with open(part, "wb") as file:
                file.write(content.encode())
                _flush(file)
            os.replace(part, self._snapshot)
            _flush_directory(self._directory)
            self._journal.truncate(0)
            _flush(self._journal)

    def close(self) -> None:
        self.checkpoint()
        self._journal.close()
        self._owner.close()

    def _load_snapshot(self) -> tuple[str, dict[str, str]]:
        try:
            content = json.loads(self._snapshot.read_bytes())
            return content["identity"], dict(content["things"])
        except FileNotFoundError:
            return str(uuid.uuid4()), {}
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"{self._snapshot}: {error}") from error

    def _replay(self, path: Path):
        journal = open(path, "a+b")
        journal.seek(0)
        lines = journal.read().split(b"\n")
        lines.pop()  # empty, or a line whose writing was cut off and never answered
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                self._things[entry["key"]] = entry["value"]
            except (ValueError, KeyError, TypeError) as error:
                raise Damaged(f"{path}:{number}: {error}") from error
        return journal


def _own(path: Path, patience: float):
    """Locks the memory: two writers would overwrite each other."""
    file = open(path, "wb")
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Damaged(f"{path.parent} is in use by another agent") from None
            time.sleep(0.1)


def _flush(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
