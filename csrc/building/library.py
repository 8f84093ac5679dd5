"""A library as its sources, the commands that compile and link them, and the ninja file that does it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from building.toolchain import CSRC

INTROSPECTION = "introspection.cpp"
"""The source in each library's folder that says what the library was built with."""


@dataclass(frozen=True)
class Step:
    """One source file, and the command that compiles it; `name` tells apart what is compiled more than once."""

    command: str
    source: Path
    name: str = ""

    @property
    def object(self) -> str:
        """The object file, in the build folder; sources of one name in two folders stay apart."""
        path = self.source.relative_to(CSRC).with_suffix("")
        return f"{path}{'.' + self.name if self.name else ''}{self.source.suffix}.o"


@dataclass(frozen=True)
class Library:
    """How to build one library: its compile steps, then its link ($in the objects, $out the library)."""

    compile: list[Step]
    link: str


def sources(folder: str, suffix: str) -> list[Path]:
    """The sources of a folder of csrc and those below it, always in one order: that of the link."""
    return sorted((CSRC / folder).rglob(f"*{suffix}"))


def shared_sources() -> list[Path]:
    """What every library compiles: the sources outside the folders of the libraries."""
    return [path for path in sources(".", ".cpp") if not {"cpu", "cuda"} & set(path.relative_to(CSRC).parts)]


def ninja_file(library: Library, output: Path) -> str:
    """The build of one library in ninja's language."""
    lines = []
    for number, step in enumerate(library.compile):
        command = f"{step.command} -MMD -MF $out.d -c $in -o $out"
        lines += [f"rule compile{number}", f"  command = {command}", "  depfile = $out.d", "  deps = gcc"]
        lines.append(f"build {_escaped(step.object)}: compile{number} {_escaped(step.source)}")
    objects = " ".join(_escaped(step.object) for step in library.compile)
    lines += ["rule link", f"  command = {library.link}", f"build {_escaped(output)}: link {objects}", ""]
    return "\n".join(lines)


def _escaped(path: Path | str) -> str:
    return re.sub(r"[$ :]", r"$\g<0>", str(path))
