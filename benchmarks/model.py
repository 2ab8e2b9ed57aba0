"""What the whole model costs: synthetic weights a second, a layer at true size, starting up.

Every number stands beside something else that was run in the same process, or started in the same
way. `lingspec golden record` prints the time and memory of a whole run.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from lingspec.golden import synthetic_numpy
from lingspec.golden.full_size import Asked, full_size
from lingspec.reference import LingConfig
from lingspec.reference.synthetic import Synthetic, recipe

PRESET = "ling-2.5-1t"
REPEATS = 5


def seconds(run: Callable[[], object]) -> float:
    """The median of some runs, after one that is not counted."""
    run()
    took = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def weights() -> None:
    """Parameters a second, of the three matrices of an expert, beside torch's own generator."""
    config = LingConfig.preset(PRESET)
    names = [f"model.layers.9.mlp.experts.7.{kind}_proj.weight" for kind in ("gate", "up", "down")]
    for dtype in (torch.bfloat16, torch.float32):
        made = Synthetic(config, 0, dtype)
        shapes = [made.shape(name) for name in names]
        count = sum(h * w for h, w in shapes)
        ours = count / seconds(lambda m=made: [m[name] for name in names])
        theirs = count / seconds(
            lambda s=shapes, d=dtype: [torch.empty(x, dtype=d).uniform_() for x in s]
        )
        print(
            f"{dtype!s:<16}{ours:.3g} parameters a second with {torch.get_num_threads()} "
            f"threads; {ours / theirs:.2f} times torch's uniform_"
        )
    name, shape = names[0], made.shape(names[0])
    how = recipe(config, name, shape)
    alone = seconds(lambda: synthetic_numpy.tensor(name, shape, 0, exponent=how.exponent))
    print(f"NumPy alone     {shape[0] * shape[1] / alone:.3g} parameters a second")


def layers(count: int) -> None:
    """Both layer origins and their disturbed runs through the first layers of the true size."""
    last = [time.perf_counter()]

    def done(layer: int, _of: int) -> None:
        now = time.perf_counter()
        kind = "dense" if layer <= 4 else "experts"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"layer {layer - 1:<3}{kind:<9}{now - last[0]:6.1f} s, at most {peak:.2f} GiB so far")
        last[0] = now

    full_size(Asked(), layers=count, done=done)


def starting() -> None:
    """Seconds until a command can begin, beside importing torch alone."""

    def started(*command: str) -> float:
        return seconds(
            lambda: subprocess.run(
                [sys.executable, *command], check=True, stdout=subprocess.DEVNULL
            )
        )

    torch_alone = started("-c", "import torch")
    ours = started("-c", "import lingspec.reference")
    verb = started("-m", "lingspec.conformance", "model", PRESET)
    print(
        f"import torch {torch_alone:.2f} s; import lingspec.reference {ours - torch_alone:+.2f} s"
    )
    print(f"lingspec model {verb:.2f} s in all, {verb / torch_alone:.2f} times import torch")


def main() -> None:
    """All of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=6, help="of the true size; 0: none")
    options = parser.parse_args()
    weights()
    starting()
    if options.layers:
        layers(options.layers)


if __name__ == "__main__":
    main()
