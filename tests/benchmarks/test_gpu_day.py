"""The script for the day a GPU is there, as far as a machine without one can run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from types import ModuleType

import pytest
import torch
from scripts import ROOT, load

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def gpu_day() -> ModuleType:
    return load("benchmarks/gpu_day.py")


@pytest.fixture(scope="module")
def gpu_cases(gpu_day: ModuleType) -> ModuleType:
    return load("benchmarks/gpu_cases.py")


@pytest.fixture(scope="module")
def gpu_lines(gpu_day: ModuleType) -> ModuleType:
    return sys.modules["gpu_lines"]


def python(gpu_day: ModuleType, name: str, code: str, seconds: int = 30, **more):
    return gpu_day.Step(name, (sys.executable, "-c", code), seconds, **more)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_every_step_ends_within_ten_minutes_and_names_existing_files(gpu_day, tmp_path):
    plan = gpu_day.steps(tmp_path)
    assert len({step.name for step in plan}) == len(plan)
    assert all(step.seconds < 600 for step in plan)
    for step in plan:
        for part in step.command:
            if part.startswith(("tests/", "benchmarks/")) or part == "setup.py":
                assert (ROOT / part).exists(), part


def test_the_first_call_builds_proves_and_measures_kernels(gpu_day, tmp_path):
    names = [step.name for step in gpu_day.steps(tmp_path)]
    assert {"build cuda", "tests on the device", "streaming copy"} < set(names[: names.index("kernels")])
    order = [names.index(name) for name in ("kernels", "memcheck", "ncu", "competitors")]
    assert order == sorted(order)


def test_only_tests_that_need_a_device_run(gpu_day, tmp_path):
    plan = {step.name: step.command for step in gpu_day.steps(tmp_path) if "pytest" in step.command}
    assert {command[-2:] for command in plan.values()} == {("-m", "gpu"), ("-m", "triton_interpret")}
    assert "tests/backends/triton/test_gate.py on the device" in plan
    assert "tests/backends/triton/test_traffic.py on the device" not in plan  # it counts what the interpreter does


def test_its_python_compiles(gpu_day):
    steps = sys.modules["gpu_steps"]
    for code in (steps.REDUCED, steps.PROFILED):
        compile(code, "step", "exec")


def test_dry_run_prints_the_plan_and_writes_nothing(gpu_day, tmp_path, capsys):
    assert gpu_day.main(["--dry-run", "--output", str(tmp_path / "results")]) == 0
    printed = capsys.readouterr().out
    assert "racecheck" in printed and "competitors" in printed and "streaming copy" in printed
    assert not (tmp_path / "results").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so(gpu_day, tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu_day.main(["--output", str(tmp_path)])
    assert "no CUDA device" in capsys.readouterr().err


def test_steps_are_kept_and_not_run_again(gpu_day, tmp_path):
    path, mark = tmp_path / "gpu_day.json", tmp_path / "ran"
    step = python(gpu_day, "once", f"open({str(mark)!r}, 'a').write('x'); print('{{\"bytes\": 1}}')", keeps=True)
    assert gpu_day.go(path, [step], 5) == 0 and gpu_day.go(path, [step], 5) == 0
    assert mark.read_text() == "x"
    record = json.loads(path.read_text())
    assert record["steps"]["once"]["results"] == [{"bytes": 1}]
    assert {"device", "driver", "commit", "torch", "toolkit"} <= set(record["machines"][-1])
    assert len(record["machines"]) == 1, "a call in which nothing ran adds none"


def test_what_is_built_is_built_again_on_a_bare_machine(gpu_day, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_day, "ROOT", tmp_path)
    path, product = tmp_path / "results" / "gpu_day.json", tmp_path / "built.so"
    step = python(gpu_day, "build", f"open({str(product)!r}, 'a').write('x')", product="built*")
    for _ in range(2):
        assert gpu_day.go(path, [step], 5) == 0
    assert product.read_text() == "x"
    product.unlink()
    assert gpu_day.go(path, [step], 5) == 0
    assert product.read_text() == "x"


def test_a_failure_is_kept_and_the_rest_goes_on(gpu_day, tmp_path):
    path = tmp_path / "gpu_day.json"
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    plan = [
        python(gpu_day, "wrong", "raise SystemExit(3)"),
        python(gpu_day, "slow", child, seconds=1),
        python(gpu_day, "absent", "", needs="no-such-program"),
        python(gpu_day, "right", "print('fine')"),
    ]
    assert gpu_day.go(path, plan, 5) == 1
    kept = json.loads(path.read_text())["steps"]
    assert (kept["wrong"]["status"], kept["wrong"]["exit"]) == ("failed", 3)
    assert (kept["slow"]["status"], kept["slow"]["exit"]) == ("failed", 124)
    assert kept["absent"] == {"status": "skipped", "why": "no-such-program is not on PATH", "machine": 0}
    assert kept["right"]["status"] == "done"


def test_nothing_starts_that_may_not_end_in_time(gpu_day, tmp_path, capsys, monkeypatch):
    clock = Clock()
    ran = []

    def run_step(step, seconds):
        ran.append((step.name, seconds))
        clock.now += 200
        return {"status": "done"}

    monkeypatch.setattr(gpu_day, "run_step", run_step)
    plan = [python(gpu_day, name, "", seconds) for name, seconds in (("a", 300), ("b", 400), ("c", 100))]
    assert gpu_day.go(tmp_path / "gpu_day.json", plan, 9, clock) == 0
    assert ran == [("a", 300), ("c", 100)]
    assert "b: not started" in capsys.readouterr().out
    gpu_day.go(tmp_path / "gpu_day.json", plan, 9, clock)
    assert ran[2:] == [("b", 400)]


def test_cases_are_measured_until_the_time_is_up_and_then_go_on(gpu_lines, tmp_path):
    clock, path, measured = Clock(), tmp_path / "cases.jsonl", []

    def task(name):
        def measure():
            measured.append(name)
            clock.now += 10
            if name == "c":
                raise ModuleNotFoundError("No module named 'pytorchcv'")
            return {"seconds": 1.0}

        return name, measure

    assert gpu_lines.go(map(task, "abcde"), path, 25, clock) == gpu_lines.UNFINISHED
    assert measured == ["a", "b"]
    assert gpu_lines.go(map(task, "abcde"), path, 60, clock) == 0
    assert measured == ["a", "b", "c", "d", "e"]
    lines = {line["name"]: line for line in gpu_lines.read(path) if "started" not in line}
    assert lines["c"] == {"name": "c", "failed": "ModuleNotFoundError: No module named 'pytorchcv'"}
    assert lines["e"] == {"name": "e", "seconds": 1.0}


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {benchmarks!r})
import gpu_lines

def task(name):
    def measure():
        if name == "c" and os.environ.get("KILL"):
            os.kill(os.getpid(), signal.SIGKILL)
        return {{"seconds": 1.0}}
    return name, measure

sys.exit(gpu_lines.go(map(task, "abcd"), Path({path!r}), 60))
"""


def test_a_killed_run_loses_one_case_and_one_that_always_kills_is_passed_over(gpu_lines, tmp_path):
    path = tmp_path / "cases.jsonl"
    code = KILLED.format(benchmarks=str(ROOT / "benchmarks"), path=str(path))

    def run(**environment):
        return subprocess.run([sys.executable, "-c", code], env=os.environ | environment).returncode

    assert run(KILL="1") == -signal.SIGKILL
    assert [line["name"] for line in gpu_lines.read(path) if "seconds" in line] == ["a", "b"]
    with path.open("a") as file:
        file.write('{"name": "half a li')  # the kill came while a line was written
    assert run(KILL="1") == -signal.SIGKILL
    assert run(KILL="1") == 0
    lines = {line["name"]: line for line in gpu_lines.read(path) if "started" not in line}
    assert set(lines) == set("abcd")
    assert "never ended" in lines["c"]["failed"] and lines["d"]["seconds"] == 1.0


@pytest.mark.parametrize("what", ["kernels", pytest.param("competitors", marks=pytest.mark.slow)])
def test_cases_run_on_a_small_shape(gpu_cases, gpu_lines, tmp_path, what):
    if what == "kernels":
        tasks = gpu_cases.kernels(CPU, ((2, 8, 5, 7),))
    else:
        tasks = (task for task in gpu_cases.contest(CPU, "tiny") if "bfloat16" in task[0])
    assert gpu_lines.go(tasks, tmp_path / "cases.jsonl", 500) == 0
    lines = [line for line in gpu_lines.read(tmp_path / "cases.jsonl") if "started" not in line]
    assert lines and not any("failed" in line for line in lines)
    if what == "kernels":
        assert all(line["seconds"]["median"] > 0 for line in lines)
    else:
        assert all(any(row["competitor"] == "fused" for row in line["rows"]) for line in lines)


def test_the_day_end_to_end_over_three_machines(gpu_day, gpu_lines, tmp_path, monkeypatch, capsys):
    """Three calls, each with a folder of its own that holds what the one before left; the second is killed at a case."""
    clock = Clock()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_day, "machine", lambda: {"device": "fake"})
    folders = [tmp_path / name for name in ("first", "second", "third")]

    def plan(folder):
        code = KILLED.format(benchmarks=str(ROOT / "benchmarks"), path=str(folder / "kernels.jsonl"))
        return [
            python(gpu_day, "build cuda", "print('built')", 400),
            gpu_day.Step("kernels", (sys.executable, "-c", code), 60, cases=True),
            python(gpu_day, "racecheck", "print('no race')", 500),
        ]

    monkeypatch.setattr(gpu_day, "steps", plan)
    really = gpu_day.run_step

    def run_step(step, seconds):
        clock.now += 400 if step.name == "build cuda" else 100
        return really(step, seconds)

    monkeypatch.setattr(gpu_day, "run_step", run_step)
    monkeypatch.setenv("KILL", "1")
    first, second, third = folders
    assert gpu_day.main(["--output", str(first)], clock) == 1
    assert "kernels: failed" in capsys.readouterr().out
    monkeypatch.delenv("KILL")
    assert gpu_day.main(["--output", str(second), "--resume", str(first), "--minutes", "4"], clock) == 0
    assert [line["name"] for line in gpu_lines.read(second / "kernels.jsonl") if "seconds" in line] == list("abcd")
    assert "racecheck: not started" in capsys.readouterr().out
    assert gpu_day.main(["--output", str(third), "--resume", str(second)], clock) == 0
    record = json.loads((third / "gpu_day.json").read_text())
    assert {name: step["status"] for name, step in record["steps"].items()} == {
        "build cuda": "done",
        "kernels": "done",
        "racecheck": "done",
    }
    assert sorted(file.name for file in third.iterdir()) == ["gpu_day.json", "kernels.jsonl"]


def test_the_report_is_put_together_from_the_lines(gpu_day, tmp_path, monkeypatch):
    (tmp_path / "gpu_day.json").write_text(json.dumps({"machines": [{"device": "x"}], "steps": {}}))
    lines = [{"name": "a", "started": "now"}]
    lines += [{"name": name, "operation": name, "rows": [], "absent": {}} for name in ("gate", "bam")]
    (tmp_path / "competitors.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    kernels = (("copy_ 1x8x4x4 float32 NCHW", 1e-5, 2e9), ("gate cuda 1x8x4x4 float32 NCHW", 2e-5, 1e9))
    (tmp_path / "kernels.jsonl").write_text(
        "".join(
            json.dumps({"name": name, "seconds": {"median": seconds}, "bytes_per_second": rate}) + "\n"
            for name, seconds, rate in kernels
        )
    )
    reported = []
    monkeypatch.setattr(gpu_day.subprocess, "run", lambda command, **_: reported.append(command))
    assert gpu_day.main(["--report", str(tmp_path)]) == 0
    merged = json.loads((tmp_path / "readme.json").read_text())
    assert [case["operation"] for case in merged["cases"]] == ["gate", "bam"]
    assert reported and reported[0][-1] == str(tmp_path / "readme.json")
    assert "| 1x8x4x4 float32 NCHW | 10.0 us | 20.0 us, 50% |" in (tmp_path / "kernels.md").read_text()
