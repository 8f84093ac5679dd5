"""Forwards of extended classes that torch.jit.script can compile, which reads source and looks names up in globals."""

from __future__ import annotations
import __future__

import ast
import functools
import inspect
import linecache
import textwrap
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import nn

from bam_fused.surgery.walking import Unscriptable, skip_hidden

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


def wrapping(original: type[nn.Module], before: bool) -> dict[str, Any]:
    """The members of a class whose forward calls the original's and, before or after it, `self.bam`.

    A forward with the original's parameters and the original under another name; where TorchScript knows the original under
    several signatures (`torch.jit._overload_method`), both once more for each of them.

    Raises:
        Unscriptable: the source does not tell the parameters (there is none, it is decorated, or takes any number of
            arguments), or walks through children, the BAM's container, in a way that can not be told from here.
    """
    definition = _definition(original)
    forward: FunctionType = original.forward  # type: ignore[assignment]
    walks = issubclass(original, (nn.Sequential, nn.ModuleDict)) and skip_hidden(definition)
    functions = [_calling(definition, "forward", _OWN, before)]
    functions += [_renamed(definition, _OWN)] if walks else []
    overloads = _overloads(original)
    for i, overload in enumerate(overloads):
        signed = ast.FunctionDef(**vars(definition) | {"args": overload.args, "returns": overload.returns})
        functions += [_calling(signed, f"forward__{i}", f"{_OWN}__{i}", before), _renamed(signed, f"{_OWN}__{i}")]
    members: dict[str, Any] = _compiled(functions, f"{original.__module__}.{original.__qualname__}, {before=}", forward)
    if not walks:  # compiled from where it stands
        own = FunctionType(forward.__code__, forward.__globals__, _OWN, None, forward.__closure__)
        own.__dict__.update(forward.__dict__)
        members[_OWN] = own
    for function in (members["forward"], members[_OWN]):
        function.__defaults__, function.__kwdefaults__ = forward.__defaults__, forward.__kwdefaults__
    if overloads:
        signatures = [f"forward__{i}" for i in range(len(overloads))]
        members["__overloads__"] = {"forward": signatures}
        for name in signatures:
            torch.jit.export(members[name])
    return members


def refusing(reason: str) -> Callable[[nn.Module], nn.Module]:
    """A method that torch.jit.script calls first, which raises RuntimeError with the reason."""

    def __prepare_scriptable__(self: nn.Module) -> nn.Module:
        raise RuntimeError(
            f"torch.jit.script can not compile this {type(self).__name__} with the BAM that insert_bam gave it: {reason}; "
            "torch.jit.trace and torch.export can"
        )

    return __prepare_scriptable__


def _definition(original: type[nn.Module]) -> ast.FunctionDef:
    """The syntax tree of a class's forward; Unscriptable where it can not be extended."""
    forward = original.forward
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(forward))).body
    except (OSError, TypeError, ValueError, SyntaxError):
        definition = ast.Pass()
    if not isinstance(forward, FunctionType) or not isinstance(definition, ast.FunctionDef):
        raise Unscriptable("the source of its forward can not be read")
    taken = definition.args
    if definition.decorator_list:
        raise Unscriptable("its forward is decorated")
    if taken.vararg or taken.kwarg or taken.posonlyargs or len(taken.args) < 2:
        raise Unscriptable("its forward does not name its arguments")
    return definition


def _overloads(original: type[nn.Module]) -> list[ast.FunctionDef]:
    """The signatures under which TorchScript knows a class's forward, where there are several."""
    known = getattr(torch._jit_internal, "_overloaded_methods", {})
    key = torch._jit_internal._qualified_name(original.forward)
    declared = known.get(key, {}).get(original.__name__, [])
    return [ast.parse(textwrap.dedent(inspect.getsource(overload))).body[0] for overload in declared]  # type: ignore[misc]


def _calling(definition: ast.FunctionDef, name: str, own: str, before: bool) -> str:
    """The source of a function with the same parameters that calls `self.<own>`, and `self.bam` before or after it."""
    taken = ast.parse(ast.unparse(definition)).body[0].args  # type: ignore[attr-defined]  # a copy
    itself, first, *others = [arg.arg for arg in taken.args]
    others += [f"{arg.arg}={arg.arg}" for arg in taken.kwonlyargs]
    taken.defaults = [ast.Constant(None) for _ in taken.defaults]  # the original's own are put in later
    taken.kw_defaults = [default and ast.Constant(None) for default in taken.kw_defaults]
    inner = f"{itself}.{own}({', '.join([f'{itself}.bam({first})' if before else first, *others])})"
    outer = inner if before else f"{itself}.bam({inner})"
    returns = f" -> {ast.unparse(definition.returns)}" if definition.returns else ""
    return f"def {name}({ast.unparse(taken)}){returns}:\n    return {outer}\n"


def _renamed(definition: ast.FunctionDef, name: str) -> str:
    return ast.unparse(ast.FunctionDef(**vars(definition) | {"name": name, "decorator_list": []})) + "\n"


def _compiled(functions: Sequence[str], what: str, like: FunctionType) -> dict[str, Any]:
    """The functions of these source texts, which `inspect` finds, with the names that `like` sees."""
    source, filename = "\n".join(functions), f"<bam_fused: {what}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    scope: dict[str, Any] = {}
    exec(compile(source, filename, "exec", __future__.annotations.compiler_flag), _names(like), scope)
    return scope
