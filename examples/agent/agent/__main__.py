"""Starts the role that the image was built for."""

import importlib
import os
import sys

ROLES = ("planner", "executor")

role = os.environ.get("AGENT_ROLE", "")
if role not in ROLES:
    sys.exit(f"AGENT_ROLE is {role!r}: want one of {', '.join(ROLES)}")
sys.exit(importlib.import_module(f"agent.{role}").main())
