"""Forwards of extended classes that torch.jit.script can compile, which reads source and looks names up in globals."""

from __future__ import annotations
import __future__

import ast
import functools
import inspect
import linecache
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any

from torch import nn

_OWN = "_own_forward"


def _names(function: FunctionType) -> dict[str, Any]:
    """What a function's free names stand for."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return function.__globals__ | {name: cell.cell_contents for name, cell in cells}


def standing_for(original: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` under the original's name and signature, so that torch.jit.script compiles the original.

    That reads the source of what `functools.wraps` refers to, but looks its names up in the globals of the function in hand:
    they are the original's here. So `function` must have no global names of its own, only closed-over ones.
    """
    if isinstance(original, FunctionType) and isinstance(function, FunctionType):
        function = FunctionType(function.__code__, _names(original), function.__name__, None, function.__closure__)
    return functools.update_wrapper(function, original)


def wrapping(original: type[nn.Module], before: bool) -> dict[str, Callable[..., Any]]:
    """Two methods: the original's forward, and one with its parameters that calls it, and `self.bam` before or after it.

    Empty where the source does not tell the parameters (there is none, it is decorated, or takes any number of arguments).
    """
    forward = original.forward
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(forward))).body
    except (OSError, TypeError, ValueError, SyntaxError):
        return {}
    if not isinstance(forward, FunctionType) or not isinstance(definition, ast.FunctionDef):
        return {}
    taken = definition.args
    if definition.decorator_list or taken.vararg or taken.kwarg or taken.posonlyargs or len(taken.args) < 2:
        return {}
    given = [name.arg for name in taken.args[1:]] + [f"{name.arg}={name.arg}" for name in taken.kwonlyargs]
    inner = f"self.{_OWN}({', '.join([f'self.bam({given[0]})', *given[1:]] if before else given)})"
    taken.args[0].arg = "self"
    taken.defaults = [ast.Constant(None) for _ in taken.defaults]  # the original's own are put in below
    taken.kw_defaults = [default and ast.Constant(None) for default in taken.kw_defaults]
    source = f"def forward({ast.unparse(taken)}):\n    return {inner if before else f'self.bam({inner})'}\n"
    made = _compiled(source, f"<bam_fused: {original.__module__}.{original.__qualname__}, {before=}>", _names(forward))
    own = FunctionType(forward.__code__, forward.__globals__, _OWN, None, forward.__closure__)  # compiled by its name
    own.__dict__.update(forward.__dict__)
    for function in (made, own):
        function.__defaults__, function.__kwdefaults__ = forward.__defaults__, forward.__kwdefaults__
    return {"forward": made, _OWN: own}


def _compiled(source: str, filename: str, names: dict[str, Any]) -> FunctionType:
    """The one function in a source text, whose source `inspect` finds."""
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    scope: dict[str, Any] = {}
    exec(compile(source, filename, "exec", __future__.annotations.compiler_flag), names, scope)
    return scope["forward"]
