"""BAMs that return the attention, alone or beside F', use one of their branches, or resize their spatial map."""

import copy
import pickle

import pytest
import torch
from implementations import (
    AttentionAlone,
    EHaNetBAM,
    OneBranch,
    ResizedFightingcvBAM,
    UsesOneBranch,
    WithItsAttention,
    feature_map,
    randomise,
)
from torch.testing import assert_close

from bam_fused import BAM, replace_bam, restore_bam
from bam_fused.visualize import attention_maps


class AttentionFirst(WithItsAttention):
    def forward(self, x):
        return super().forward(x)[::-1]


class OneBranchWithItsAttention(OneBranch):
    def forward(self, x):
        attention = 1 + torch.sigmoid(next(self.children())(x))
        return attention * x, attention


KINDS = {
    "attention": (AttentionAlone, "product"),
    "E-HANet": (EHaNetBAM, "product"),
    "F' and attention": (WithItsAttention, "product"),
    "attention and F'": (AttentionFirst, "product"),
    "of one branch": (OneBranchWithItsAttention, "spatial alone"),
    "one of two branches": (UsesOneBranch, "spatial alone"),
    "the other of two": (lambda channels: UsesOneBranch(channels, "channel"), "channel alone"),
    "resized": (ResizedFightingcvBAM, "sum"),
}


def outputs(module, x):
    out = module(x)
    return out if isinstance(out, tuple) else (out,)


def step(module, x):
    """Outputs and gradients of one step."""
    x = x.clone().requires_grad_()
    found = outputs(module, x)
    loss = sum((i * out).square().mean() for i, out in enumerate(found, 1))
    wanted = [x, *module.parameters()]
    return *found, *torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_results_stay_what_they_were(kind, train):
    make, combine = KINDS[kind]
    module = randomise(make(32)).double().train(train)
    original = copy.deepcopy(module)
    (entry,) = replace_bam(module)
    assert entry.replaced and entry.combine == combine and entry.difference < 1e-12, entry
    for size in ((8, 8), (8, 11), (13, 13)):
        x = feature_map(3, 32, *size)
        assert type(module(x)) is type(original(x))
        assert_close(step(module, x), step(original, x), rtol=1e-10, atol=1e-12)
    for (name, value), other in zip(module.named_buffers(), original.buffers(), strict=True):
        assert_close(value, other, rtol=1e-12, atol=1e-12, msg=name)
    restore_bam(module)
    assert type(module) is type(original)


@pytest.mark.parametrize("kind", ["attention", "resized"])
def test_the_report_says_why_no_faster_path_is_taken(kind):
    module = KINDS[kind][0](32)
    (entry,) = replace_bam(module)
    reason = "it returns the attention" if kind == "attention" else "it resizes its spatial map"
    assert entry.paths.inference.name == "composed" and reason in entry.paths.inference.reason


def test_one_branch_says_so_in_the_report_and_in_print():
    module = OneBranch(32)
    (entry,) = replace_bam(module)
    assert entry.row[3] == "spatial alone" and "combine='spatial alone'" in repr(module)


def test_copies_and_pickles_return_the_same():
    module = randomise(WithItsAttention(32)).double().eval()
    replace_bam(module)
    x = feature_map(3, 32, 8, 8)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert_close(other(x), module(x), rtol=0, atol=0)


def test_the_attention_keeps_dtype_and_memory_format():
    module = AttentionAlone(32).bfloat16().eval()
    replace_bam(module)
    x = feature_map(3, 32, 8, 8, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    out = module(x)
    assert out.dtype == torch.bfloat16 and out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", ["attention", "F' and attention", "resized"])
def test_no_bam_can_stand_for_these(kind):
    reason = "resizes its spatial map" if kind == "resized" else "returns the attention"
    with pytest.raises(ValueError, match=f"can not be read as a BAM: it {reason}, which BAM does not"):
        BAM.from_module(KINDS[kind][0](32))


def test_from_module_takes_the_branch_that_is_used():
    module = randomise(UsesOneBranch(32)).double().eval()
    bam = BAM.from_module(module)
    assert bam.options.branches == "spatial"
    x = feature_map(3, 32, 9, 9)
    assert_close(bam(x), module(x), rtol=1e-12, atol=1e-12)


def test_e_hanets_checkpoint():
    module = randomise(EHaNetBAM(32)).double().eval()
    bam = BAM.from_state_dict(module.state_dict()).eval()
    x = feature_map(3, 32, 9, 9)
    assert_close(bam(x), module(x) * x, rtol=1e-12, atol=1e-12)
    assert list(bam.to_layout("e-hanet")) == list(module.state_dict())


@pytest.mark.parametrize("kind", ["attention", "F' and attention"])
def test_pictures_show_what_was_attended(kind):
    module = randomise(KINDS[kind][0](32))
    x = feature_map(2, 32, 8, 8, dtype=torch.float32)
    (before,) = attention_maps(module, x)
    replace_bam(module)
    (after,) = attention_maps(module, x)
    for found in (before, after):
        assert_close(found.refined, x * (1 + found.attention))
