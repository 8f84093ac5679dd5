"""Progress on the error stream: one line that renews itself on a terminal, a line per step elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Progress:
    """Says which step of how many is being worked on and how long it has taken so far."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self.total = total
        self.done = 0
        self.stream = stream or sys.stderr
        self.start = time.monotonic()

    def __call__(self, what: str) -> None:
        self.done += 1
        elapsed = time.monotonic() - self.start
        line = f"[{self.done}/{self.total}, {elapsed:.0f} s] {what}"
        if self.stream.isatty():
            self.stream.write(f"\r\x1b[K{line[:150]}")
        else:
            self.stream.write(line + "\n")
        self.stream.flush()

    def close(self) -> None:
        """Leave the terminal's line empty for what comes next."""
        if self.stream.isatty():
            self.stream.write("\r\x1b[K")
            self.stream.flush()
