"""What a public function says of bad input: the argument's name, what it was, what is expected.

Kernels refuse bad input too, but tersely. The public functions call these checks only once a kernel has refused, or
while PyTorch traces them, so that a good call pays nothing for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from bam_fused.reference import COMBINES

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def _check_tensor(name: str, value: object, dtypes: tuple[torch.dtype, ...]) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.is_nested:
        raise TypeError(f"{name} must be a dense (strided) tensor, got a nested tensor")
    if value.layout is not torch.strided:
        raise TypeError(f"{name} must be a dense (strided) tensor, got layout {value.layout}")
    if value.dtype not in dtypes:
        expected = " or ".join(str(dtype) for dtype in dict.fromkeys(dtypes))
        raise TypeError(f"{name} must have dtype {expected}, got {value.dtype}")
    return value


def _same(shape: Sequence[int], expected: Sequence[int]) -> bool:
    """Compared size by size, so that symbolic sizes under torch.compile are guarded on, not looked up."""
    return len(shape) == len(expected) and all(a == b for a, b in zip(shape, expected, strict=True))


def check_feature_map(name: str, x: object) -> tuple[int, ...]:
    """Raise TypeError or ValueError unless x is a dense floating-point (N, C, H, W) tensor; its shape."""
    tensor = _check_tensor(name, x, DTYPES)
    if tensor.dim() != 4:
        raise ValueError(f"{name} must have shape (N, C, H, W), got {tuple(tensor.shape)}")
    return tuple(tensor.shape)


def check_combine(combine: object) -> None:
    """Raise TypeError or ValueError unless combine is "sum", "product" or "max"."""
    if not isinstance(combine, str):
        raise TypeError(f"combine must be a string, one of {COMBINES}, got {type(combine).__name__}")
    if combine not in COMBINES:
        raise ValueError(f"combine must be one of {COMBINES}, got {combine!r}")


def check_gate(x: object, channel_logits: object, spatial_logits: object, combine: object) -> None:
    """Raise TypeError or ValueError, naming the argument, unless `gate` can take these."""
    n, c, h, w = check_feature_map("x", x)
    assert isinstance(x, Tensor)
    for name, logits, shapes, letters in (
        ("channel_logits", channel_logits, ((n, c), (n, c, 1, 1)), "(N, C) or (N, C, 1, 1)"),
        ("spatial_logits", spatial_logits, ((n, h, w), (n, 1, h, w)), "(N, H, W) or (N, 1, H, W)"),
    ):
        tensor = _check_tensor(name, logits, (x.dtype, torch.float32))
        if not any(_same(tensor.shape, shape) for shape in shapes):
            raise ValueError(
                f"{name} must have shape {letters} = {shapes[0]} or {shapes[1]} for x of shape {(n, c, h, w)}, "
                f"got {tuple(tensor.shape)}"
            )
        if tensor.device != x.device:
            raise ValueError(f"{name} must be on the device of x, {x.device}, got {tensor.device}")
    check_combine(combine)


def check_squeeze(x: object, weight: object, bias: object, features: object = False) -> None:
    """Raise TypeError or ValueError, naming the argument, unless `squeeze` can take these."""
    _, c, _, _ = check_feature_map("x", x)
    assert isinstance(x, Tensor)
    kernel = _check_tensor("weight", weight, (x.dtype,))
    r = kernel.shape[0] if kernel.dim() > 0 else 0
    if r == 0 or not any(_same(kernel.shape, shape) for shape in ((r, c), (r, c, 1, 1))):
        raise ValueError(
            f"weight must have shape (R, C) or (R, C, 1, 1) with R >= 1 and C = {c}, got {tuple(kernel.shape)}"
        )
    if bias is not None and not _same(_check_tensor("bias", bias, (x.dtype,)).shape, (r,)):
        raise ValueError(f"bias must have shape (R,) = {(r,)}, got {tuple(cast(Tensor, bias).shape)}")
    for name, value in (("weight", weight), ("bias", bias)):
        if isinstance(value, Tensor) and value.device != x.device:
            raise ValueError(f"{name} must be on the device of x, {x.device}, got {value.device}")


def check_reduced_grad(x: object, reduced_grad: object) -> None:
    """Raise TypeError or ValueError unless reduced_grad can be the gradient of a reduction of x, (N, R, H, W)."""
    n, _, h, w = check_feature_map("x", x)
    _, r, *_ = check_feature_map("reduced_grad", reduced_grad)
    assert isinstance(reduced_grad, Tensor)
    if not _same(reduced_grad.shape, (n, r, h, w)):
        raise ValueError(f"reduced_grad must have shape (N, R, H, W) = {(n, r, h, w)}, got {tuple(reduced_grad.shape)}")


def check_dilated_conv(x: object, weight: object, bias: object, dilation: object, relu: object) -> None:
    """Raise TypeError or ValueError, naming the argument, unless `dilated_conv` can take these."""
    _, c, _, _ = check_feature_map("x", x)
    assert isinstance(x, Tensor)
    kernel = _check_tensor("weight", weight, (x.dtype,))
    if kernel.dim() != 4 or not _same(kernel.shape[1:], (c, 3, 3)) or kernel.shape[0] == 0:
        raise ValueError(f"weight must have shape (O, I, 3, 3) with I = {c}, got {tuple(kernel.shape)}")
    if bias is not None and not _same(_check_tensor("bias", bias, (x.dtype,)).shape, kernel.shape[:1]):
        raise ValueError(
            f"bias must have shape (O,) = {tuple(kernel.shape[:1])}, got {tuple(cast(Tensor, bias).shape)}"
        )
    if not isinstance(dilation, int) or dilation < 1:
        raise ValueError(f"dilation must be an int of at least 1, got {dilation!r}")
