"""Watching what kernels load and store as Triton's interpreter executes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

Watcher = Callable[[str, np.ndarray, int], None]
"""Is told of each access: "load" or "store", the addresses and the bytes of each element."""


@contextmanager
def watched(watch: Watcher) -> Iterator[None]:
    """Tell `watch` of every element that a kernel loads or stores."""
    from triton.runtime.interpreter import interpreter_builder

    def watching(kind: str, access: Callable[..., Any], mask_at: int) -> Callable[..., Any]:
        def call(pointers, *rest):
            addresses = pointers.data[rest[mask_at].data.astype(bool)]
            if addresses.size:
                watch(kind, addresses, pointers.get_element_ty().primitive_bitwidth // 8)
            return access(pointers, *rest)

        return call

    load = watching("load", interpreter_builder.create_masked_load, 0)
    store = watching("store", interpreter_builder.create_masked_store, 1)
    with mock.patch.multiple(interpreter_builder, create_masked_load=load, create_masked_store=store):
        yield


class Launch:
    """What the programs of one launch have touched, and what is wrong with it on a GPU.

    There programs run in any order, several at once, and the threads of one see each other's stores only behind a barrier;
    nothing stops an access beyond a tensor. The interpreter, where one program runs after another, shows none of this.
    """

    def __init__(self, name: str, tensors: list[Any]) -> None:
        self.name = name
        storages = [tensor.untyped_storage() for tensor in tensors]
        self.memory = {(storage.data_ptr(), storage.data_ptr() + storage.nbytes()) for storage in storages}
        self.touched: dict[str, list[np.ndarray]] = {"load": [], "store": []}

    def touch(self, kind: str, addresses: np.ndarray, size: int) -> None:
        inside = np.zeros(addresses.shape, bool)
        for begin, end in self.memory:
            inside |= (addresses >= begin) & (addresses + size <= end)
        assert inside.all(), f"{self.name}: a {kind} beyond its tensors"
        self.touched[kind].append(addresses)

    def check(self) -> None:
        """Raise AssertionError where an element is stored twice, or stored and loaded."""
        loaded, stored = (np.concatenate([np.empty(0, np.uint64), *self.touched[kind]]) for kind in ("load", "store"))
        assert np.unique(stored).size == stored.size, f"{self.name} stores an element twice"
        assert not np.isin(loaded, stored).any(), f"{self.name} loads what it stores"


@contextmanager
def checked_launches() -> Iterator[list[str]]:
    """Check every launch inside; the kernels' names, in order."""
    from triton.runtime.interpreter import GridExecutor

    names: list[str] = []
    current: list[Launch] = []
    run = GridExecutor.__call__

    def checked(self, *arguments, **options):
        name = self.fn.__name__
        current[:] = [Launch(name, [argument for argument in arguments if hasattr(argument, "data_ptr")])]
        run(self, *arguments, **options)
        names.append(name)
        current[0].check()

    with (
        watched(lambda *access: current[0].touch(*access)),
        mock.patch.object(GridExecutor, "__call__", checked),
    ):
        yield names
