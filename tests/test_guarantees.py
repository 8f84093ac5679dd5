"""GUARANTEES.md: every line names a test, and every test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "GUARANTEES.md").read_text()


def test_every_guarantee_names_a_test():
    lines = [line for line in PAGE.splitlines() if line.startswith("|")][2:]
    assert lines and all("`tests/" in line for line in lines)


def test_every_named_test_is_there():
    named = re.findall(r"`(tests/\S+?\.py)::(\w+)`", PAGE)
    assert named
    for path, name in named:
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{name}"
