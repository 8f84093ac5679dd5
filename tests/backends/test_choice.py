"""use_backend: blocks that overlap, threads, tasks, autograd's threads, what is compiled; and strict."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import torch
from drawing import feature_map, logits

import bam_fused
from bam_fused import backends
from bam_fused.backends import choice, current_backend

SHAPE = (2, 4, 3, 3)
CPU = torch.device("cpu")


def _gate(x: torch.Tensor | None = None):
    return bam_fused.gate(feature_map(SHAPE) if x is None else x, *logits(SHAPE))


@pytest.fixture
def no_library(monkeypatch):
    """The CPU library cannot run."""
    missing = replace(backends.REGISTRY["cpu"], why_not=lambda device: "not built: for this test")
    monkeypatch.setitem(backends.REGISTRY, "cpu", missing)
    monkeypatch.setattr(backends, "_logged", set())
    for one in choice.CHOICES.values():
        one.kernels.clear()
    yield
    for one in choice.CHOICES.values():
        one.kernels.clear()


def test_blocks_end_in_any_order():
    first, second, third = (bam_fused.use_backend(name) for name in ("eager", "cpu", "eager"))
    first.__enter__()
    second.__enter__()
    third.__enter__()
    second.__exit__()
    assert current_backend() == "eager"
    third.__exit__()
    assert current_backend() == "eager"
    first.__exit__()
    assert current_backend() == "auto"


def test_one_object_in_two_blocks():
    block = bam_fused.use_backend("eager")
    with block:
        with block:
            pass
        assert current_backend() == "eager"
    assert current_backend() == "auto"


def test_a_plain_call_holds_for_all_threads_and_a_block_before_it():
    with bam_fused.use_backend("eager"):
        bam_fused.use_backend("cpu")
        assert current_backend() == "eager"
        assert _in_a_thread(current_backend) == "cpu"
    assert current_backend() == "cpu"


def test_a_call_that_is_kept_is_a_plain_one():
    kept = bam_fused.use_backend("eager")
    assert current_backend() == "eager"
    assert _in_a_thread(current_backend) == "eager"
    shown = bam_fused.use_backend("cpu")
    assert repr(shown) == "use_backend('cpu', strict=False)"
    assert _in_a_thread(current_backend) == "cpu"
    del kept, shown
    assert current_backend() == "cpu"


def _in_a_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_threads_do_not_see_each_others_blocks():
    """Thousands of blocks in one thread, none of them ever in force in another, not even while it is being entered."""
    stop = threading.Event()

    def enter_and_leave() -> None:
        while not stop.is_set():
            with bam_fused.use_backend("eager"):
                pass

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=enter_and_leave) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        assert {current_backend() for _ in range(20_000)} == {"auto"}
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert not choice._undecided


def test_tasks_do_not_see_each_others_blocks():
    async def task(name: str, entered: asyncio.Event, other: asyncio.Event) -> list[str]:
        before = current_backend()
        with bam_fused.use_backend(name):
            entered.set()
            await other.wait()
            inside = current_backend()
        return [before, inside, current_backend()]

    async def both() -> list[list[str]]:
        events = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(task("eager", *events), task("cpu", *reversed(events)))

    assert asyncio.run(both()) == [["auto", "eager", "auto"], ["auto", "cpu", "auto"]]


@pytest.mark.parametrize("forward", ["eager", "auto"])
def test_a_backward_runs_on_its_forwards_backend(forward, monkeypatch):
    """Also in a thread where the block is not in force, as autograd's own threads are."""
    ran = []
    plain = backends.eager.KERNELS["gate_backward"]
    monkeypatch.setitem(backends.eager.KERNELS, "gate_backward", lambda *a: ran.append("plain") or plain(*a))
    x = feature_map(SHAPE).requires_grad_()
    with bam_fused.use_backend(forward):
        out = _gate(x)
    other = {"eager": "auto", "auto": "eager"}[forward]

    def backward() -> torch.Tensor:
        with bam_fused.use_backend(other):
            return torch.autograd.grad(out, x, torch.ones_like(out))[0]

    assert _in_a_thread(backward).shape == x.shape
    assert ran == []  # eager's own backward is autograd's, the other's is the library's


def _nodes(function, *arguments) -> set[str]:
    """The targets of what torch.compile makes of a function, and its result is as the function's."""
    seen: set[str] = set()

    def note(module, inputs):
        seen.update(str(node.target) for node in module.graph.nodes)
        return module.forward

    compiled = torch.compile(function, fullgraph=True, backend=note)
    torch.testing.assert_close(compiled(*arguments), function(*arguments))
    return {target for target in seen if target.startswith("bam_fused")}


FUSED = {"bam_fused.gate.compiled"}


def test_a_compiled_graph_follows_blocks_and_plain_calls():
    x, (channel, spatial) = feature_map(SHAPE), logits(SHAPE)
    graphs: list[set[str]] = []

    def note(module, inputs):
        graphs.append({str(n.target) for n in module.graph.nodes if str(n.target).startswith("bam_fused")})
        return module.forward

    compiled = torch.compile(bam_fused.gate, fullgraph=True, backend=note)
    compiled(x, channel, spatial)
    for _ in range(2):  # the second time around nothing is compiled
        with bam_fused.use_backend("eager"):
            compiled(x, channel, spatial)
        compiled(x, channel, spatial)
        assert _in_a_thread(lambda: compiled(x, channel, spatial)).shape == x.shape
    assert graphs == [FUSED, set()]
    bam_fused.use_backend("eager")
    compiled(x, channel, spatial)
    bam_fused.use_backend("auto")
    compiled(x, channel, spatial)
    assert [graph for graph in graphs[2:] if graph] == []


def test_blocks_inside_of_what_is_compiled():
    def blocks(x, channel, spatial):
        with bam_fused.use_backend("eager"):
            first = bam_fused.gate(x, channel, spatial)
        return first, bam_fused.gate(x, channel, spatial)

    def eager(x, channel, spatial):
        with bam_fused.use_backend("eager"):
            return bam_fused.gate(x, channel, spatial)

    arguments = feature_map(SHAPE), *logits(SHAPE)
    assert _nodes(blocks, *arguments) == FUSED
    assert _nodes(eager, *arguments) == set()
    assert current_backend() == "auto" and choice._traced is None


def test_a_compiled_backward_follows_too():
    x = feature_map(SHAPE).requires_grad_()
    channel, spatial = logits(SHAPE)

    def step(x):
        out = bam_fused.gate(x, channel, spatial)
        return torch.autograd.grad(out.sum(), x)[0]

    def compiled_gradient():
        out = torch.compile(bam_fused.gate, fullgraph=True, backend="aot_eager")(x, channel, spatial)
        return torch.autograd.grad(out.sum(), x)[0]

    with bam_fused.use_backend("eager"):
        torch.testing.assert_close(compiled_gradient(), step(x))
    torch.testing.assert_close(compiled_gradient(), step(x))


def test_strict_says_why(no_library):
    with bam_fused.use_backend("auto", strict=True):
        with pytest.raises(bam_fused.BackendUnavailable, match=r"gate would run in eager .*: cpu: not built: for this"):
            _gate()
        with pytest.raises(bam_fused.BackendUnavailable, match="global_avg_pool would run in eager"):
            bam_fused.BAM(4, reduction=2)(feature_map(SHAPE))
    _gate()


def test_strict_asks_nothing_of_a_backend_that_was_named(no_library):
    with bam_fused.use_backend("eager", strict=True):
        _gate()


@pytest.mark.skipif(backends.REGISTRY["cpu"].why_not(CPU) is not None, reason="the CPU library does not run")
def test_strict_forbids_what_takes_plain_operators():
    x = feature_map(SHAPE).requires_grad_()
    channel, spatial = logits(SHAPE)
    with bam_fused.use_backend("auto", strict=True):
        out = bam_fused.gate(x, channel, spatial)
        torch.autograd.grad(out.sum(), x, retain_graph=True)
        with pytest.raises(bam_fused.BackendUnavailable, match="second derivative"):
            torch.autograd.grad(out.sum(), x, create_graph=True)
        with pytest.raises(bam_fused.BackendUnavailable, match=r"torch\.func"):
            torch.func.vmap(lambda one: bam_fused.gate(one, channel, spatial))(x.detach()[None])
        with pytest.raises(bam_fused.BackendUnavailable, match="forward-mode"):
            torch.func.jvp(lambda one: bam_fused.gate(one, channel, spatial), (x.detach(),), (x.detach(),))
        program = torch.export.export(_Gate(), (x.detach(), channel, spatial))
    assert not any("bam_fused" in str(node.target) for node in program.graph.nodes)


class _Gate(torch.nn.Module):
    def forward(self, x, channel, spatial):
        return bam_fused.gate(x, channel, spatial)


@pytest.mark.parametrize(("strict", "error"), [(1, TypeError), ("yes", TypeError)])
def test_strict_is_checked(strict, error):
    with pytest.raises(error, match="strict must be True, False or None"):
        bam_fused.use_backend("auto", strict=strict)


@pytest.mark.parametrize(("value", "printed"), [("1", "True"), ("0", "False"), ("yes", "ValueError")])
def test_the_environment_makes_it_strict(value, printed, monkeypatch):
    monkeypatch.setenv("BAM_FUSED_STRICT", value)
    code = "from bam_fused import backends; print(backends.current().strict)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert printed in done.stdout + done.stderr
