"""A file of JSON lines that grows case by case, and goes on where a killed run left it. Nothing here imports PyTorch."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

UNFINISHED = 75  # of sysexits.h: try again
STARTS = 2

Line = dict[str, Any]
Task = tuple[str, Callable[[], Line]]


def read(path: Path) -> list[Line]:
    """The lines of a file; the last may have been cut off."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def go(tasks: Iterable[Task], path: Path, seconds: float, clock: Callable[[], float] = time.monotonic) -> int:
    """Measure what the file does not hold yet, until the time is up; 0 when nothing is left."""
    end = clock() + seconds
    written = read(path)
    done = {line["name"] for line in written if "started" not in line}
    starts = Counter(line["name"] for line in written if "started" in line)
    slowest = 0.0
    with path.open("a") as file:

        def append(line: Line) -> None:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

        if file.tell() and not path.read_bytes().endswith(b"\n"):
            file.write("\n")  # after a line that was cut off
        for name, measure in tasks:
            if name in done:
                continue
            if starts[name] >= STARTS:
                append({"name": name, "failed": f"started {STARTS} times and never ended"})
                continue
            if clock() + slowest > end:
                return UNFINISHED
            before = clock()
            append({"name": name, "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
            try:
                line = measure()
            except Exception as failure:  # a missing package, memory, a kernel that fails: the others go on
                line = {"failed": f"{type(failure).__name__}: {failure}".splitlines()[0]}
            append({"name": name, **line})
            slowest = max(slowest, clock() - before)
    return 0
