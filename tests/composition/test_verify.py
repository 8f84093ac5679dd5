"""What replacing compares before it trusts a plan: each path that the module will take, in a dtype that leaves no doubt."""

from __future__ import annotations

import torch
from implementations import OfficialBAM, feature_map, randomise

from bam_fused import replace_bam
from bam_fused.composition import path


class Float32Inside(OfficialBAM):
    """Computes in float32 whatever it is given, as code written around mixed precision does."""

    def forward(self, x):
        return super().forward(x.float()).to(x.dtype)


def test_every_path_is_compared(monkeypatch):
    for position, candidate in enumerate(path.CANDIDATES):
        wrong = candidate._replace(run=lambda *arguments, right=candidate.run: right(*arguments) * (1 + 1e-6))
        candidates = (*path.CANDIDATES[:position], wrong, *path.CANDIDATES[position + 1 :])
        monkeypatch.setattr(path, "CANDIDATES", candidates)
        (entry,) = replace_bam(randomise(OfficialBAM(32)))
        assert not entry.replaced, candidate.name
        assert "difference" in entry.reason


def test_a_module_that_insists_on_float32():
    bam = randomise(Float32Inside(32)).eval()
    x = feature_map(3, 32, 9, 9, dtype=torch.float32)
    want = bam(x)
    (entry,) = replace_bam(bam)
    assert entry.replaced, entry.reason
    torch.testing.assert_close(bam(x), want)
