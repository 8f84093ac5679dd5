"""How a BAM is run: one plan for `BAM`, for replaced modules and for their pictures, and one choice of the path it takes.

plan.py says what a plan is, run.py runs it layer by layer, path.py chooses a faster path for the whole module where there
is one, waits.py says when none may be taken. from_layout.py makes the plan of a live module of another implementation and
verify.py proves it on stand-ins (twin.py).
"""
