"""Measuring: what `bam-fused bench`, `bam-fused report`, `bam-fused demo` and the suites of benchmarks/ share.

A case (cases.py) is one operation at one shape, dtype, memory format and mode. operations/ describes each operation
(description.py): which functions compete, what they must compute, the floor, and its cases in every set (sets.py); run.py
checks every competitor against float64, times all of them interleaved (timing.py) and measures their memory (memory.py);
results.py keeps the rows; table.py, plots.py and readme.py show them; compare.py holds a new run against an earlier one.
ledger/ counts traffic instead of time.
"""
