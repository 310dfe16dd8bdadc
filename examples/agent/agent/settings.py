"""What the environment configures; read once, at the start."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

HEALTH_PORT = 8080


@dataclass(frozen=True)
class Settings:
    bus_host: str
    store_host: str
    store_user: str
    store_database: str
    store_password: str
    memory: Path
    configuration: Path
    model: str
    log_level: str

    @classmethod
    def read(cls, environ=os.environ) -> "Settings":
        """Reads the environment; a missing password ends the process with 2."""
        password = environ.get("DB_PASSWORD", "")
        if not password:
            print("agent: DB_PASSWORD is not set", file=sys.stderr)
            raise SystemExit(2)
        return cls(
            bus_host=environ.get("BUS_HOST", "bus"),
            store_host=environ.get("STORE_HOST", "store"),
            store_user=environ.get("STORE_USER", "agent"),
            store_database=environ.get("STORE_DATABASE", "agent"),
            store_password=password,
            memory=Path(environ.get("AGENT_MEMORY", "/var/lib/agent")),
            configuration=Path(environ.get("AGENT_CONFIGURATION", "/srv/agent")),
            model=environ.get("LLM_MODEL", "rules-1"),
            log_level=environ.get("LOG_LEVEL", "info"),
        )
