"""Which path a BAM takes, and what keeps it from a faster one."""

import copy
import pickle

import pytest
import torch
from implementations import PUBLIC, OfficialBAM, STANetBAM, feature_map, randomise
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations

from bam_fused import BAM, replace_bam, visualize
from bam_fused.composition import path, waits
from bam_fused.composition.explain import paths_of
from bam_fused.composition.plan import live, plan_of
from bam_fused.composition.run import run


def composed(now, x):
    return run(now.module, now.plan, x)


@pytest.fixture
def taken(monkeypatch):
    """A faster path that runs what the plan says and keeps the names of the modules that took it."""
    names = []

    def faster(now, x):
        names.append(type(now.module).__name__)
        return composed(now, x)

    candidate = path.Candidate("faster", lambda now, x: None if x.shape[0] > 1 else "one sample", faster)
    monkeypatch.setattr(path, "CANDIDATES", (candidate,))
    return names


def planned(kind):
    module = randomise(BAM.official(32) if kind == "BAM" else PUBLIC[kind](32)).double().eval()
    replace_bam(module)
    return module


KINDS = ["BAM", *PUBLIC]


@pytest.mark.parametrize("kind", KINDS)
def test_plans_name_every_layer(kind):
    module = planned(kind)
    plan = pickle.loads(pickle.dumps(plan_of(module)))
    assert plan == plan_of(module) and plan.branches == "both" and plan.channels == 32
    _, _, channel, spatial = live(module, plan)
    weights = [step.weight for step in (*channel, *spatial)]
    norms = [step.norm for step in (*channel, *spatial) if step.norm is not None]
    layers = [m for m in module.modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.modules.batchnorm._BatchNorm))]
    assert set(map(id, layers)) == set(map(id, weights + norms))
    assert isinstance(channel[0].weight, nn.Conv2d if plan.convolves else nn.Linear)
    last = {"asdf2kr": [True, True], "dsc-bam": [True, False]}.get(kind, [False, False])
    assert [step.relu for step in (channel[0], channel[-1], spatial[-1])] == [True, *last]


@pytest.mark.parametrize("options", [{}, {"branches": "channel"}, {"branches": "spatial", "legacy_pool": True}])
def test_plans_of_one_branch(options):
    plan = plan_of(BAM(32, **options))
    assert plan.branches == options.get("branches", "both")
    assert (bool(plan.channel), bool(plan.spatial)) == (plan.branches != "spatial", plan.branches != "channel")
    assert not plan.crops


@pytest.mark.parametrize("kind", KINDS)
def test_a_faster_path_is_taken_by_itself(kind, taken):
    module, x = planned(kind), feature_map(2, 32, 9, 9)
    want = run(module, plan_of(module), x)
    taken.clear()
    assert path.path_of(module, plan_of(module), x).name == "faster"
    assert torch.equal(module(x), want) and len(taken) == 1
    refused = path.path_of(module, plan_of(module), x[:1])
    assert (refused.name, refused.reason) == ("composed", "faster: one sample")
    module(x[:1])
    assert len(taken) == 1


def test_verification_runs_the_path_that_the_module_will_take(monkeypatch):
    wrong = path.Candidate("wrong", lambda now, x: None, lambda now, x: composed(now, x) * 1.01)
    monkeypatch.setattr(path, "CANDIDATES", (wrong,))
    (entry,) = replace_bam(OfficialBAM(32))
    assert not entry.replaced and "computes something else" in entry.reason


def _hooked(module, layer):
    layer.register_forward_hook(lambda *_: None)


def _pre_hooked(module, layer):
    layer.register_forward_pre_hook(lambda *_: None)


def _backward_hooked(module, layer):
    layer.register_full_backward_hook(lambda *_: None)


def _own_forward(module, layer):
    layer.forward = layer.forward


def _parametrized(module, layer):
    parametrizations.orthogonal(layer)


def _subclassed(module, layer):
    kind = type(layer)
    layer.__class__ = type("Adapted", (kind,), {"forward": lambda self, x: kind.forward(self, x)})


@pytest.mark.parametrize("kind", ["BAM", "official", "renovamen"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_hooked, "a hook is registered"),
        (_pre_hooked, "a hook is registered"),
        (_backward_hooked, "a hook is registered"),
        (_own_forward, "its forward is set on the instance"),
        (_parametrized, "has children (parametrizations)"),
        (_subclassed, "is a Adapted, not a plain Linear or Conv2d"),
    ],
)
def test_what_waits_on_a_layer_keeps_it_a_module(kind, change, reason, taken):
    for branch in ("channel", "spatial"):
        module, x = planned(kind), feature_map(2, 32, 9, 9)
        layer = getattr(plan_of(module), branch)[0].weight
        change(module, module.get_submodule(".".join(layer)))
        want = run(module, plan_of(module), x)
        found = path.path_of(module, plan_of(module), x)
        assert (found.name, found.reason) == ("composed", f"faster: {'.'.join(layer)}: {reason}")
        taken.clear()
        assert torch.equal(module(x), want) and not taken


@pytest.mark.parametrize("other", [nn.GroupNorm(2, 2), nn.SyncBatchNorm(2).train(), nn.InstanceNorm2d(2)])
def test_another_norm_keeps_it_a_module(other):
    module = planned("official")
    module.spatial_att.gate_s.gate_s_bn_reduce0 = other
    assert waits.on_a_layer(live(module, plan_of(module))).endswith(
        f"is a {type(other).__name__}, not a plain BatchNorm"
    )


def test_another_activation_keeps_it_a_module():
    module = planned("official")
    module.channel_att.gate_c.gate_c_relu_1 = nn.SiLU()
    assert waits.on_a_layer(live(module, plan_of(module))) == "channel_att.gate_c.gate_c_relu_1: is a SiLU, not a ReLU"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_waits_on_a_fresh_module(kind):
    module = planned(kind)
    assert waits.on_a_container(module, plan_of(module)) is None
    assert waits.on_a_layer(live(module, plan_of(module))) is None


@pytest.mark.parametrize("kind", ["BAM", "official"])
def test_hooks_for_all_modules_see_every_module(kind, taken):
    module, x = planned(kind), feature_map(2, 32, 9, 9)
    taken.clear()
    seen = []
    handle = register_module_forward_hook(lambda called, *_: seen.append(called))
    try:
        module(x)
    finally:
        handle.remove()
    called = {id(m) for m in module.modules() if not isinstance(m, nn.ModuleList)}
    assert called <= {id(m) for m in seen} and not taken
    module(x)
    assert taken


@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"])
def test_hooks_on_a_branch_of_bam_run(kind, taken):
    bam, x = BAM(32).double(), feature_map(2, 32, 9, 9).requires_grad_()
    want = bam(x)
    taken.clear()
    seen = []
    handle = getattr(bam.channel, kind)(lambda *_: seen.append(1))
    out = bam(x)
    out.sum().backward()
    assert seen and torch.equal(out, want) and not taken
    handle.remove()
    bam(x)
    assert len(seen) == 1 and taken


def test_layers_added_to_bam_are_refused():
    bam = BAM(32)
    bam.channel.linears.append(nn.Linear(32, 32))
    with pytest.raises(ValueError, match="made with 2 layers and now has 3"):
        bam(torch.ones(2, 32, 4, 4))


@pytest.mark.parametrize("combine", ["sum", "product"])
def test_pictures_of_other_implementations(combine):
    """visualize runs the same plan, whether the module has been replaced or not, hooks on its children included."""
    model = nn.Sequential(randomise(OfficialBAM(32, combine=combine))).double()
    x = feature_map(2, 32, 9, 9)
    (before,) = visualize.attention_maps(model, x)
    torch.testing.assert_close(before.features * (1 + before.attention), before.refined)
    other = copy.deepcopy(model)
    replace_bam(other)
    (after,) = visualize.attention_maps(other, x)
    torch.testing.assert_close(after.attention, before.attention)
    assert after.name == before.name == "0"


def test_reports_say_which_paths_are_taken_and_why(monkeypatch):
    one = path.Candidate("one operator", lambda now, x: "a gradient is wanted" if x.requires_grad else None, composed)
    two = path.Candidate(
        "two passes", lambda now, x: None if all(c.training for c in now.module.modules()) else "frozen", composed
    )
    monkeypatch.setattr(path, "CANDIDATES", (one, two))
    model = nn.Sequential(OfficialBAM(32), OfficialBAM(32), BAM(32), STANetBAM(32)).eval()
    model[0].spatial_att.gate_s.gate_s_conv_di_1.register_forward_hook(lambda *_: pytest.fail("it was run"))
    model[0].train()
    modes = [module.training for module in model.modules()]
    report = replace_bam(model)
    assert modes == [module.training for module in model.modules()]
    hooked, plain, own, other = report
    assert other.paths is None and [entry.replaced for entry in report] == [True, True, True, False]
    assert own.paths.inference.described() == plain.paths.inference.described() == "one operator"
    assert plain.paths.training.described() == "two passes (not one operator: a gradient is wanted)"
    why = "spatial_att.gate_s.gate_s_conv_di_1: a hook is registered"
    assert hooked.paths.inference.reason == f"one operator: {why}; two passes: {why}"
    header, _, first, second, *_ = str(report).splitlines()
    assert "inference" in header and "training" in header
    assert "composed (not one operator: spatial_att" in first and "two passes (not" in second
    assert replace_bam(model)[1].paths == plain.paths, "a second report says the same"


def test_only_what_runs_a_plan_has_paths():
    with pytest.raises(ValueError, match="module must be a BAM or a replaced one, got OfficialBAM"):
        paths_of(OfficialBAM(32))
