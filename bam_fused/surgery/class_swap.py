"""Extend the class of one live module: it stays the object that it is, and its class becomes a subclass of what it was.

So isinstance, state_dict, hooks, children, train and eval are what they were, and deepcopy, pickle, DataParallel and
torch.compile see an ordinary module. torch.nn.utils.parametrize works likewise.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn


class Extension(NamedTuple):
    """What a subclass adds to a class."""

    mixins: tuple[type, ...]
    """Before the original among the bases; the first one's name goes in front of the original's."""
    members: dict[str, Any]


Extend = Callable[[type[nn.Module]], Extension]
"""Says what a class is to be extended by; a function of a module, so that pickles can name it."""

_made: dict[tuple[Extend, type[nn.Module]], type[nn.Module]] = {}
_originals: dict[type[nn.Module], type[nn.Module]] = {}


def swap(module: nn.Module, extend: Extend) -> None:
    """Extend a module's class.

    Raises:
        TypeError: the class can not be subclassed, or its instances can not change class.
    """
    module.__class__ = _subclass(extend, type(module))


def original_class(module: nn.Module) -> type[nn.Module]:
    """The class that a module had before the last `swap`; the one it has, if that is none of ours."""
    return _originals.get(type(module), type(module))


def swap_back(module: nn.Module) -> None:
    """Undo the last `swap`; nothing where someone else has subclassed the class since."""
    module.__class__ = original_class(module)


def _subclass(extend: Extend, original: type[nn.Module]) -> type[nn.Module]:
    """The extended subclass of a class, made once."""
    if (extend, original) not in _made:
        mixins, members = extend(original)

        def __reduce_ex__(self: nn.Module, protocol: Any) -> Any:
            reduced = original.__reduce_ex__(self, max(int(protocol), 2))
            if reduced[0] is copyreg.__newobj__:  # type: ignore[attr-defined]
                return _rebuild, (extend, original), *reduced[2:]
            return reduced  # the original has its own way

        own = {"__module__": original.__module__, "__doc__": original.__doc__, "__reduce_ex__": __reduce_ex__}
        made = type(f"{mixins[0].__name__}{original.__name__}", (*mixins, original), own | members)
        _made[extend, original], _originals[made] = made, original
    return _made[extend, original]


def _rebuild(extend: Extend, original: type[nn.Module]) -> nn.Module:
    """An empty instance of the subclass, for pickle and copy to fill."""
    return object.__new__(_subclass(extend, original))
