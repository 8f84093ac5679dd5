"""The CPU library: csrc/cpu, with the kernels compiled once for each instruction set."""

from __future__ import annotations

import platform

from building.library import INTROSPECTION, Library, Step, shared_sources, sources
from building.toolchain import (
    COMPILER_RUNTIME,
    CSRC,
    compiler,
    introspection_flag,
    prefix_map,
    quoted,
    stable_abi_flags,
    torch_folder,
)

FLAGS = "-std=c++17 -O3 -fPIC -fvisibility=hidden -Wall -Wno-psabi"
X86_64 = platform.machine() in ("x86_64", "AMD64")


def instruction_sets() -> dict[str, str]:
    """Each instruction set's name and the compiler's flags for it."""
    sets = {"baseline": "-DBAM_VECTOR_BYTES=16"}
    if X86_64:
        sets["avx2"] = "-DBAM_VECTOR_BYTES=32 -mavx2 -mfma -mf16c"
        sets["avx512"] = (
            "-DBAM_VECTOR_BYTES=64 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c "
            "-Wno-uninitialized -Wno-maybe-uninitialized"  # false alarms in GCC 12's own avx512fintrin.h
        )
        sets["avx512_bf16"] = f"{sets['avx512']} -mavx512bf16"
    return {name: f"{flags} -DBAM_INSTRUCTION_SET={name}" for name, flags in sets.items()}


def cpu_library() -> Library:
    """Every source in kernels/ once for each instruction set, without torch; the rest once."""
    cxx, torch = compiler(), torch_folder()
    flags = f"{FLAGS} -DBAM_X86_64" if X86_64 else FLAGS
    command = f"{cxx} {flags} {prefix_map(CSRC, 'csrc')}"
    kernels = sources("cpu/kernels", ".cpp")
    steps = [Step(f"{command} {more}", source, name) for name, more in instruction_sets().items() for source in kernels]
    said = introspection_flag(cxx, torch, flags)
    for source in [*shared_sources(), *(path for path in sources("cpu", ".cpp") if path not in kernels)]:
        own = said if source.name == INTROSPECTION else ""
        steps.append(Step(f"{command} {stable_abi_flags(torch, 'CPU')} {own}", source))
    link = f"{cxx} -shared -Wl,-s $in -o $out {COMPILER_RUNTIME} -L{quoted(torch / 'lib')} -ltorch_cpu"
    return Library(steps, link)
