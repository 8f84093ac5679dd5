"""Tables for a terminal: reports and benchmarks print through this."""

from __future__ import annotations

from collections.abc import Sequence

Row = Sequence[str]


def text_table(head: Row, rows: Sequence[Row], *, foot: Row | None = None, numbers: bool = False) -> str:
    """Columns as wide as their widest cell, to the left; `numbers` puts all but the first to the right.

    A rule stands below the head, and above `foot` if there is one.
    """
    lines = [head, *rows, *([] if foot is None else [foot])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = "  ".join("-" * width for width in widths)

    def line(cells: Row) -> str:
        placed = (
            cell.rjust(width) if numbers and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(placed).rstrip()

    printed = list(map(line, lines))
    printed.insert(1, rule)
    if foot is not None:
        printed.insert(-1, rule)
    return "\n".join(printed)
