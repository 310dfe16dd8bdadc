"""A small stateful agent: a planner that takes goals over HTTP and an executor
that works through the plans, with Redis as the bus and PostgreSQL as the store.
"""

__version__ = "1.0.0"
