"""Results files, tables, the README's section, plots and the regression guard, on made-up figures."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from bam_fused.bench import plots, readme, results, table
from bam_fused.bench.compare import compare

MACHINE = {"device": "made up", "slug": "made-up", "type": "cpu", "threads": 2, "bam_fused": "0", "torch": "2"}


def _row(name: str, seconds: float, ratio: float | None = None, **more: object) -> dict[str, object]:
    row = {"competitor": name, "seconds": {"median": seconds, "low": 0.9 * seconds, "high": 1.1 * seconds}, **more}
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
    machine = {**MACHINE, "when": "2020-01-01T00:00:00+00:00"}
    return {"schema": results.SCHEMA, "set": "readme", "machine": machine, "cases": cases}


def test_results_survive_the_file(tmp_path: Path) -> None:
    found = _run()
    assert results.read(results.write(found, tmp_path / "deep" / "run.json")) == found


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"schema": 0}')
    with pytest.raises(ValueError, match=r"other\.json is not a results file"):
        results.read(tmp_path / "other.json")


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
        readme.refresh(page, [readme.section(_run())], [picture])
        text = page.read_text()
        assert text.startswith("before\n") and text.endswith("after\n")
        assert "old" not in text
        assert text.count("| 8x256x56x56 float32 NCHW | 8 ms (7.2 ms-8.8 ms) | 4.00x | - | - | 4.0 | 91% |") == 2
        assert "](benchmarks/a.png)" in text


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
