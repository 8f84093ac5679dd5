"""Containers whose forward walks through their children, among which the BAM that acts on their output must not be.

In Python the container's iterators leave it out (`attach`). TorchScript has its own: it writes loops over children out while
it compiles, so there the loops in the forward's source skip what has the attribute `HIDDEN`.
"""

from __future__ import annotations

import ast

HIDDEN = "_hidden_from_its_container"

_ITERATORS = ("items", "values", "keys", "children", "named_children", "modules", "named_modules")


class Unscriptable(Exception):
    """Why there is no forward that TorchScript could compile."""


def skip_hidden(definition: ast.FunctionDef) -> bool:
    """Make every loop over `self` in a forward skip hidden children, in place; whether there is one.

    Raises:
        Unscriptable: the forward looks at its children in another way.
    """
    itself = definition.args.args[0].arg
    walks = {
        node: found for node in ast.walk(definition) if isinstance(node, ast.For) and (found := _walk(node, itself))
    }
    accounted = {node for loop in walks for node in ast.walk(loop.iter)}
    for node in ast.walk(definition):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr not in _ITERATORS:
            accounted.add(node.value)
    if any(isinstance(node, ast.Name) and node.id == itself and node not in accounted for node in ast.walk(definition)):
        raise Unscriptable("its forward looks at its children otherwise than in a loop over them")
    for loop, child in walks.items():
        skipping = ast.parse(f"if not hasattr({child}, {HIDDEN!r}):\n    pass").body[0]
        assert isinstance(skipping, ast.If)
        skipping.body, loop.body = loop.body, [skipping]
    ast.fix_missing_locations(definition)
    return bool(walks)


def _walk(loop: ast.For, itself: str) -> str:
    """The variable that stands for the child in a loop over `self`, its values or items; empty for another loop."""
    iterated, target, pairs = loop.iter, loop.target, False
    if isinstance(iterated, ast.Call) and ast.unparse(iterated.func) == "enumerate" and len(iterated.args) == 1:
        iterated, pairs = iterated.args[0], True
    over = ast.unparse(iterated)
    if over == f"{itself}.items()" and not pairs:
        pairs = True
    elif over not in (itself, f"{itself}.values()"):
        return ""
    if pairs and isinstance(target, ast.Tuple) and len(target.elts) == 2:
        target = target.elts[1]
    return target.id if isinstance(target, ast.Name) else ""
