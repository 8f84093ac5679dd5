"""A BAM for networks whose feature maps are (N, H, W, C), such as Swin."""

from __future__ import annotations

from torch import Tensor
from torch._jit_internal import is_scripting
from torch.fx import Proxy

from bam_fused.modules import BAM


class ChannelsLastBAM(BAM):
    """A `BAM` that takes and returns (N, H, W, C); the same parameters under the same names.

    The map is only seen in another order, as (N, C, H, W) in channels_last memory: nothing is copied.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not is_scripting():
            return self._forward(x)
        return self._scripted(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def _forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy) and x.tracer.root is not self:
            return super()._forward(x)  # as one node
        if not isinstance(x, Proxy):
            self._check_order(x)
        return super()._forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def _check_order(self, x: object) -> None:
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}")
        if x.dim() != 4 or x.shape[3] != self.channels:
            raise ValueError(f"x must have shape (N, H, W, {self.channels}), got {tuple(x.shape)}")
