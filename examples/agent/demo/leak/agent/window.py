"""The context window of a step, as a model's runtime would hold it.

The demo's leak: it forgot to make room. Nothing shows for a while, least of
all on a developer's machine without a limit.
"""

SIZE = 256 * 1024  # characters; filled whole, as a runtime allocates it


class Windows:
    """Every window is kept, in case a later step needs it."""

    def __init__(self) -> None:
        self._kept: list[str] = []

    def open(self, text: str) -> str:
        """Gives the window that starts with text."""
        window = text[:SIZE].ljust(SIZE)
        self._kept.append(window)
        return window
