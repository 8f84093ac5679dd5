"""When a child must be called as the module it is, because something would go unnoticed if it were not.

The rule for every path that leaves a child out: `on_a_container` for the children that no plan calls, `on_a_layer` for the
layers, norms and activations, which a faster path replaces by their tensors. Each costs a few microseconds, and says in
words what is in the way.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import _has_any_global_hook

from bam_fused.composition.plan import Live, Plan, child

# As they were when this was imported: whoever replaces one of them on the class wants it called.
_CALL = nn.Module.__call__
_LINEAR, _CONV, _CONV_INNER = nn.Linear.forward, nn.Conv2d.forward, nn.Conv2d._conv_forward
_BATCH_NORM, _SYNC_BATCH_NORM = _BatchNorm.forward, nn.SyncBatchNorm.forward
_IDENTITY, _RELU = nn.Identity.forward, nn.ReLU.forward


def on_a_container(module: nn.Module, plan: Plan) -> str | None:
    """Why a child that the plan does not call must be called after all; None where nothing waits on one."""
    if _has_any_global_hook():
        return "a hook for all modules is registered"
    for path, count in plan.containers:
        container = child(module, path)
        reason = _on(container)
        if reason is None and len(container._modules) != count:
            reason = "children were added or removed"
        if reason is not None:
            return f"{'.'.join(path)}: {reason}"
    return None


def on_a_layer(live: Live) -> str | None:
    """Why a layer must be called as a module; None where its tensors say all that it does."""
    if _has_any_global_hook():
        return "a hook for all modules is registered"
    layers, now = live.plan.channel + live.plan.spatial, live.channel + live.spatial
    for (weight, norm, activation), (layer, _, _, normalises, activates) in zip(layers, now, strict=True):
        for path, called, judge in (
            (weight, layer, _no_layer),
            (norm, normalises, _no_norm),
            (activation, activates, _no_relu),
        ):
            if called is not None:
                reason = _on(called) or judge(called)
                if reason is not None:
                    return f"{'.'.join(path)}: {reason}"  # type: ignore[arg-type]
    return None


def _on(module: nn.Module) -> str | None:
    own = module.__dict__
    if own["_forward_hooks"] or own["_forward_pre_hooks"] or own["_backward_hooks"] or own["_backward_pre_hooks"]:
        return "a hook is registered"
    if "forward" in own:
        return "its forward is set on the instance"
    return None


def _no_layer(module: nn.Module) -> str | None:
    kind = type(module)
    forward = kind.forward
    plain = forward is _LINEAR or (forward is _CONV and kind._conv_forward is _CONV_INNER)  # type: ignore[attr-defined]
    if not plain or kind.__call__ is not _CALL:
        return f"is a {kind.__name__}, not a plain Linear or Conv2d"
    return _parametrized(module)


def _no_norm(module: nn.Module) -> str | None:
    kind = type(module)
    forward = kind.forward
    plain = forward is _BATCH_NORM or forward is _IDENTITY or (forward is _SYNC_BATCH_NORM and not module.training)
    if not plain or kind.__call__ is not _CALL:
        return f"is a {kind.__name__}, not a plain BatchNorm"
    return _parametrized(module)


def _no_relu(module: nn.Module) -> str | None:
    kind = type(module)
    return None if kind.forward is _RELU and kind.__call__ is _CALL else f"is a {kind.__name__}, not a ReLU"


def _parametrized(module: nn.Module) -> str | None:
    return f"has children ({', '.join(module._modules)})" if module._modules else None
