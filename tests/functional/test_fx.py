"""The public functions on torch.fx's proxies: each becomes one node that calls it."""

import torch

import bam_fused


def functions(x, channel_logits, spatial_logits, weight):
    gated = bam_fused.gate(x, channel_logits, spatial_logits, "max")
    pooled, reduced = bam_fused.squeeze(x, weight)
    return gated, pooled + bam_fused.global_avg_pool(gated), reduced


def test_functions_are_recorded_as_themselves():
    traced = torch.fx.symbolic_trace(functions)
    targets = [node.target for node in traced.graph.nodes if node.op == "call_function"]
    assert {bam_fused.gate, bam_fused.squeeze, bam_fused.global_avg_pool} <= set(targets)
    for c, h, w in ((4, 3, 5), (6, 2, 2)):
        arguments = [torch.randn(size).double() for size in ((2, c, h, w), (2, c), (2, 1, h, w), (3, c))]
        torch.testing.assert_close(traced(*arguments), functions(*arguments), rtol=0, atol=0)
