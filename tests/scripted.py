"""Modules through torch.jit.script, with a fault of PyTorch's kept out."""

import io
from unittest import mock

import torch


def scripted(module):
    """The module scripted, saved and loaded again, under the same state_dict names.

    PyTorch keeps a table of built-in functions by id; some of them are gone by then, and now and then an attribute of a
    module is made where one of them was: "builtin cannot be used as a value". Only what is callable is looked up here.
    """
    find = torch.jit._recursive._find_builtin
    file = io.BytesIO()
    with mock.patch.object(
        torch.jit._recursive, "_find_builtin", lambda value: find(value) if callable(value) else None
    ):
        torch.jit.save(torch.jit.script(module), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    assert list(loaded.state_dict()) == list(module.state_dict())
    return loaded
