"""What the suites share: the options, one interleaved measurement per case, and the tables at the end of the run.

pytest-benchmark times one test after the other, which order and drift decide as much as the code does. Here a case is
measured once, all competitors interleaved (bam_fused.bench), and each competitor's test hands its samples to
pytest-benchmark through a clock that replays them; pytest-benchmark's own tables, JSON and comparisons then work as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import replay
import torch

from bam_fused.bench import machine, results, table
from bam_fused.bench.cases import Case
from bam_fused.bench.competitors import COMPILE_MODES
from bam_fused.bench.operations import DESCRIPTIONS
from bam_fused.bench.run import CEILINGS, COMPILED, Measured, Plan, measure
from bam_fused.bench.sets import SETS, cases_of
from bam_fused.bench.timing import Effort

MEASURED = pytest.StashKey[dict[Case, Measured]]()
WANTED = pytest.StashKey[dict[Case, set[str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bam_fused")
    group.addoption("--set", choices=SETS, default="quick", help="the cases: tiny, quick, readme or full")
    group.addoption("--full", dest="set", action="store_const", const="full", help="the same as --set=full")
    group.addoption("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda[:i]")
    group.addoption("--seconds", type=float, default=2.0, help="time for the rounds of one case")
    group.addoption("--compile-mode", action="append", choices=COMPILE_MODES, help="of torch.compile (repeatable)")
    group.addoption("--output", type=Path, help="write the results file of `bam-fused report` here")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MEASURED] = {}
    config.stash[WANTED] = {}
    config.option.benchmark_columns = ["median", "iqr", "min", "max", "rounds"]
    config.option.benchmark_sort = "median"


def _compile_modes(config: pytest.Config) -> tuple[str, ...]:
    default = COMPILE_MODES if config.option.set == "full" else COMPILE_MODES[:1]
    return tuple(config.option.compile_mode or default)


def _names(operation: str, config: pytest.Config) -> list[str]:
    modes = ["compile" if mode == "default" else f"compile ({mode})" for mode in _compile_modes(config)]
    described = DESCRIPTIONS[operation]
    others = (COMPILED,) if described.network else ("onnxruntime", *CEILINGS)
    return [*described.competitors, *modes, *others]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The cases come from the set, their competitors from the descriptions; the operation's name begins the test's id."""
    parameters = [
        pytest.param(case, name, id=_id(case, name))
        for case in cases_of(metafunc.config.option.set)
        for name in _names(case.operation, metafunc.config)
    ]
    metafunc.parametrize(("case", "competitor"), parameters)


def _id(case: Case, competitor: str) -> str:
    shape = "x".join(map(str, case.shape))
    return "-".join((case.operation, shape, case.dtype, case.memory_format, case.mode, competitor))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note who is left after -k and the like, so that nobody is compiled for nothing."""
    for item in session.items:
        parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
        if "competitor" in parameters:
            session.config.stash[WANTED].setdefault(parameters["case"], set()).add(parameters["competitor"])


@pytest.fixture
def measured(request: pytest.FixtureRequest, case: Case) -> Measured:
    """The case, measured once for all the competitors that were selected, and the fused one."""
    done = request.config.stash[MEASURED]
    if case not in done:
        option = request.config.option
        effort = Effort(seconds=option.seconds, least=2 if option.set == "tiny" else 7)
        only = ("fused", *sorted(request.config.stash[WANTED][case]))
        plan = Plan(effort=effort, compile_modes=_compile_modes(request.config), only=only)
        done[case] = measure(case, torch.device(option.device), plan)
    return done[case]


@pytest.fixture
def report_samples(benchmark: Any, measured: Measured) -> Callable[[str], None]:
    """Hand a competitor's samples to pytest-benchmark; an absent competitor skips with the reason, a wrong one fails."""

    def hand_over(competitor: str) -> None:
        reason = measured.absent.get(competitor)
        if reason is not None and reason.startswith("Absent"):
            pytest.skip(reason)
        if competitor not in measured.samples:
            pytest.fail(reason or f"{competitor} took no part", pytrace=False)
        samples = measured.samples[competitor]
        benchmark.group = measured.case.label()
        benchmark.extra_info.update(measured.row(competitor) or {})
        benchmark.pedantic(replay.advance_by(samples), rounds=len(samples))

    return hand_over


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    done = config.stash[MEASURED]
    if not done:
        return
    described = machine.describe(torch.device(config.option.device))
    found = results.assemble(described, config.option.set, (one.result() for one in done.values()))
    terminalreporter.section("ratios")
    terminalreporter.write_line(table.terminal(found))
    if config.option.output:
        terminalreporter.write_line(f"written: {results.write(found, config.option.output)}")
