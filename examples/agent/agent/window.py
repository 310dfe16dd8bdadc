"""The context window of a step, as a model's runtime would hold it."""

from collections import OrderedDict

SIZE = 256 * 1024  # characters; filled whole, as a runtime allocates it
KEPT = 16


class Windows:
    """The windows of the last few steps: a step that repeats finds its own
    again, an older one makes room."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, str] = OrderedDict()

    def open(self, text: str) -> str:
        """Gives the window that starts with text."""
        window = self._kept.pop(text, None) or text[:SIZE].ljust(SIZE)
        self._kept[text] = window
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return window
