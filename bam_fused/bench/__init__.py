"""Measuring: what `bam-fused bench`, `bam-fused report`, `bam-fused demo` and the suites of benchmarks/ share.

A case (cases.py) is one operation at one shape, dtype, memory format and mode. operations/ describes each operation
(description.py): which functions compete, what they must compute, the floor, and its cases in every set (sets.py); run.py
checks every competitor against float64, times all of them interleaved (timing.py) and measures their memory (memory.py);
results.py is the schema of what is kept; table.py and plots.py show it; compare.py holds a new run against an earlier one.
What maintains the repository with it (the README, the ledger of traffic, the paper's table) is in benchmarks/.
"""
