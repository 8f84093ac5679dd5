"""Drawn calls of every operator of the CPU library, to be run with one that was built with sanitizers: they end the process
at the first access outside a buffer or undefined behaviour. In float64 the results are compared with plain PyTorch's too.

    python sanitized_cases.py LIBRARY SEED
"""

from __future__ import annotations

import random
import sys
from typing import Any

import torch

load = torch.ops.load_library
torch.ops.load_library = lambda path: load(sys.argv[1] if path.name == "libbam_fused_cpu.so" else path)

from drawing import COMBINES, DTYPES  # noqa: E402

from bam_fused import BAM, use_backend  # noqa: E402
from bam_fused.backends import run  # noqa: E402
from bam_fused.bench.description import Samples  # noqa: E402
from bam_fused.bench.operations import DESCRIPTIONS  # noqa: E402
from bam_fused.composition import whole  # noqa: E402
from bam_fused.composition.plan import live, plan_of  # noqa: E402

DILATIONS = (1, 2, 4, 40)  # also more than any map is wide
WIDTHS = (1, 1, 2, 7, 8, 14, 33)
CALLS = 24  # of each operator
UNREAD = {"branches": 2}  # a result that its backward's kernel alone can read


def drawn_map(generator: random.Random, most_channels: int, fewest_samples: int = 1) -> torch.Tensor:
    """A feature map of few elements: of many channels or of many positions, in any dtype and both memory formats."""
    channels = generator.choice([1, 3, 16, 31, 64, 255, 1024, generator.randint(1, 1024)])
    channels = 1 + (channels - 1) % most_channels
    width = generator.choice(WIDTHS)
    height = generator.choice([1, width, generator.randint(1, 40)])
    samples = generator.randint(fewest_samples, 3)
    while samples * channels * height * width > 30000 and height > 1:
        height //= 2
    format = generator.choice([torch.contiguous_format, torch.channels_last])
    x = torch.randn(samples, channels, height, width, dtype=generator.choice(DTYPES))
    return x.contiguous(memory_format=format)


def drawn_bam(generator: random.Random, x: torch.Tensor) -> tuple[Any, ...]:
    """What the operator `bam` is given for a module with drawn options."""
    layers = generator.randint(1, 3)
    module = BAM(
        x.shape[1],
        generator.choice([1, 3, 16]) if x.shape[1] <= 64 else 16,
        [generator.choice(DILATIONS) for _ in range(layers)],
        combine=generator.choice(COMBINES),
        branches=generator.choice(["both", "both", "channel", "spatial"]),
        channel_layers=generator.randint(1, 3),
        spatial_layers=layers,
        spatial_hidden=generator.choice(["none", "bn-relu"]),
        legacy_pool=x.shape[2] <= x.shape[3] < 2 * x.shape[2] and generator.random() < 0.3,
        min_hidden=1,
    )
    module.to(x.dtype).eval().requires_grad_(False)
    return whole.arguments(live(module, plan_of(module)), x)


def drawn_arguments(generator: random.Random, name: str, samples: Samples) -> tuple[Any, ...]:
    if name == "bam":
        return drawn_bam(generator, drawn_map(generator, 1024))
    convolves, branches = name.startswith("dilated_conv"), name.startswith("branches")
    most_channels = 256 if convolves or branches else 1024  # in use such a map has at most 128
    fewest = 2 if branches else 1  # a norm over the batch refuses a single value
    arguments = list(generator.choice(list(samples(drawn_map(generator, most_channels, fewest)))))
    if convolves:
        at = next(i for i, one in enumerate(arguments) if type(one) is int)
        arguments[at] = generator.choice(DILATIONS)
    return tuple(arguments)


def main(seed: int) -> None:
    torch.manual_seed(seed)
    generator, compared = random.Random(seed), 0
    for name, samples in (item for one in DESCRIPTIONS.values() for item in one.operators.items()):
        for _ in range(CALLS):
            arguments = drawn_arguments(generator, name, samples)
            with use_backend("cpu"):
                ours = run(name, *arguments)
            if arguments[0].dtype == torch.float64:
                with use_backend("eager"):
                    plain = run(name, *arguments)
                if name in UNREAD:
                    ours, plain = ([*some[: UNREAD[name]], *some[UNREAD[name] + 1 :]] for some in (ours, plain))
                torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)
                compared += 1
    print(f"compared: {compared}")


if __name__ == "__main__":
    main(int(sys.argv[2]))
