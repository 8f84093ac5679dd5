"""Results files, tables, the README's section, plots and the regression guard, on made-up figures."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import readme

from bam_fused.bench import plots, results, table
from bam_fused.bench.compare import compare

ROOT = Path(__file__).parents[2]

MACHINE: results.Machine = {
    "device": "made up",
    "slug": "made-up",
    "type": "cpu",
    "threads": 2,
    "bam_fused": "0",
    "torch": "2",
    "triton": None,
    "onnxruntime": "1",
    "python": "3",
    "system": "none",
    "load_per_core_before": 0,
    "when": "2020-01-01T00:00:00+00:00",
}


def _row(name: str, seconds: float, ratio: float | None = None, **more: object) -> dict[str, object]:
    spread = {"median": seconds, "low": 0.9 * seconds, "high": 1.1 * seconds}
    row = {"competitor": name, "seconds": spread, "rounds": 7, **more}
    if ratio is not None:
        row["over_fused"] = {"median": ratio, "low": 0.95 * ratio, "high": 1.05 * ratio}
    return row


def _run() -> results.Results:
    cases = []
    for mode in ("inference", "forward+backward"):
        for batch in (1, 8, 32):
            rows = [
                _row("eager", 4e-3 * batch, 4.0, peak_bytes=300, saved_bytes=200, bytes_per_second=1e9),
                _row("fused", 1e-3 * batch, peak_bytes=200, saved_bytes=100, bytes_per_second=4e9, floor_passes=2.0),
                _row("clone", 0.9e-3 * batch, 0.9, bytes_per_second=4.4e9),
            ]
            case = {"operation": "gate", "shape": [batch, 256, 56, 56], "dtype": "float32", "memory_format": "NCHW"}
            cases.append({**case, "mode": mode, "rows": rows, "absent": {"compile": "RuntimeError: no compiler"}})
    return results.assemble(copy.copy(MACHINE), "readme", cases)


def test_results_survive_the_file(tmp_path: Path) -> None:
    found = _run()
    assert results.read(results.write(found, tmp_path / "deep" / "run.json")) == found


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"schema": 0}')
    with pytest.raises(ValueError, match=r"other\.json is not a results file"):
        results.read(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda run: run.pop("machine"), "results has no machine"),
        (lambda run: run["machine"].update(triton=3), r"machine\.triton must be str.*got 3"),
        (lambda run: run["cases"][1]["rows"][0].pop("seconds"), r"cases\[1\]\.rows\[0\] has no seconds"),
        (lambda run: run["cases"][1]["rows"][1]["seconds"].update(low="1"), r"rows\[1\]\.seconds\.low must be float"),
        (lambda run: run["cases"][0].update(shape=[1, 2.5]), r"cases\[0\]\.shape\[1\] must be int, got 2\.5"),
        (lambda run: run["cases"][0].update(absent={"compile": None}), r"absent\.compile must be str"),
        (lambda run: run["cases"][0].update(rows={}), r"rows must be list"),
    ],
)
def test_a_file_of_another_shape_is_refused_by_what_is_wrong(
    tmp_path: Path, spoil: Callable[[Any], object], match: str
) -> None:
    found = _run()
    spoil(found)
    with pytest.raises(ValueError, match=match):
        results.read(results.write(found, tmp_path / "run.json"))


def test_reading_imports_nothing_that_measures_or_competes() -> None:
    code = (
        "import sys; from bam_fused.bench import compare, results, table; "
        "print(sorted(name for name in sys.modules if name.startswith(('bam_fused.bench.', 'bam_fused.models'))"
        "), {'onnx', 'onnxruntime', 'timm', 'pytorchcv', 'torchvision', 'torch._inductor'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{['bam_fused.bench.' + name for name in ('compare', 'results', 'table')]} set()"


@pytest.mark.parametrize(
    "path", sorted((ROOT / results.FOLDER).glob("*/readme.json")), ids=lambda path: path.parent.name
)
def test_committed_results_can_be_read(path: Path) -> None:
    assert results.read(path)["cases"]


def test_the_terminal_shows_latency_ratio_and_absence() -> None:
    shown = table.terminal(_run())
    assert "(8,256,56,56) float32 NCHW" in shown
    assert "32 ms 4.00x" in shown
    assert "compile: RuntimeError: no compiler (6 cases)" in shown


@pytest.mark.parametrize(
    ("value", "shown"), [(1.234e-6, "1.23 us"), (0.0123, "12.3 ms"), (1.5, "1500 ms"), (12.3, "12.3 s")]
)
def test_seconds(value: float, shown: str) -> None:
    assert table.seconds(value) == shown


def test_the_readme_section_is_renewed_and_the_rest_kept(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    picture = tmp_path / "benchmarks" / "a.png"
    for _ in range(2):  # refreshing twice changes nothing more
        readme.refresh(page, [readme.section(_run(), "all.md")], [picture])
        text = page.read_text()
        assert text.startswith("before\n") and text.endswith("after\n")
        assert "old" not in text
        assert text.count("| gate ") == text.count("(900 us-1.1 ms) | 4.00x | - | - |") == 2  # the first in either mode
        assert "[all.md](all.md)" in text
        assert "](benchmarks/a.png)" in text


def test_the_readme_is_written_from_results_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"{readme.BEGIN}\n{readme.END}\n")
    files = [str(results.write(_run(), tmp_path / f"{number}.json")) for number in range(2)]
    readme.main([*files, "--readme", str(page), "--no-plots"])
    assert capsys.readouterr().out == f"written: {page}\n"
    assert page.read_text().count("**inference**") == 2
    every_row = (tmp_path / "1.md").read_text()
    assert "## gate, inference" in every_row
    assert every_row.count("| gate 8x256x56x56 float32 NCHW | 8 ms (7.2 ms-8.8 ms) | 4.00x | - | - | 4.0 | 91% |") == 2


def test_what_the_readme_shows_is_of_the_committed_results() -> None:
    """Every table of the README, and the page of every row, is what the committed files say."""
    text = (ROOT / "README.md").read_text()
    for path in sorted((ROOT / results.FOLDER).glob("*/readme.json")):
        found, page = results.read(path), path.with_suffix(".md")
        assert readme.section(found, page.relative_to(ROOT).as_posix()) in text, "run: python benchmarks/readme.py"
        assert page.read_text() == readme.full(found), "run: python benchmarks/readme.py"


@pytest.mark.parametrize("text", ["nothing", readme.BEGIN, readme.END + readme.BEGIN, 2 * (readme.BEGIN + readme.END)])
def test_a_readme_without_the_pair_of_comments_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "README.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="must hold the line"):
        readme.refresh(page, [], [])
    assert page.read_text() == text


def test_every_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    paths = plots.save_all(_run(), tmp_path)
    assert [path.name for path in paths] == ["readme-roofline.png", "readme-latency.png", "readme-memory.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_no_move_within_noise() -> None:
    before, now = _run(), _run()
    now["cases"][0]["rows"][0]["over_fused"] = {"median": 4.1, "low": 3.9, "high": 4.3}
    comparison = compare(now, before)
    assert comparison.moves == [] and not comparison.worse
    assert comparison.compared == 12


@pytest.mark.parametrize(("median", "worse"), [(2.0, True), (8.0, False)])
def test_a_move_beyond_noise_is_named(median: float, worse: bool) -> None:
    before, now = _run(), _run()
    now["cases"][0]["rows"][0]["over_fused"] = {"median": median, "low": 0.95 * median, "high": 1.05 * median}
    comparison = compare(now, before)
    (move,) = comparison.moves
    assert (move.competitor, move.before, move.now, move.worse) == ("eager", 4.0, median, worse)
    assert "gate (1,256,56,56) float32 NCHW inference" in str(move)
    assert comparison.worse is worse


def test_a_lost_figure_is_a_regression() -> None:
    before, now = _run(), _run()
    now["cases"][0]["rows"] = [now["cases"][0]["rows"][0]]
    now["cases"][0]["absent"] = {"fused": "Wrong: off"}
    comparison = compare(now, before)
    assert comparison.worse
    assert "Wrong: off" in comparison.missing[0]


def test_devices_are_not_mixed() -> None:
    before, now = _run(), copy.deepcopy(_run())
    now["machine"]["device"] = "another"
    with pytest.raises(ValueError, match="another device"):
        compare(now, before)
