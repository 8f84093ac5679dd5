"""The traffic ledger: passes over x and launches of each operation, counted and not timed.

What is counted is the same on every machine: the bytes of every tensor that an operator or a generated loop reads or
writes, over the bytes of x. Beside it stands the floor: what must be read and written at least.
"""

from traffic.entries import OPERATIONS, Entry, entries, table

__all__ = ["OPERATIONS", "Entry", "entries", "table"]
