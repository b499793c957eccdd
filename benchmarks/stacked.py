"""What training the seeds of a rung as one stack gains over one after another:
python -m benchmarks.stacked [RUNG]... [--seeds 3] [--steps 25] [--rounds 5] [--device cpu] [--threads 1]

The rungs are those of `mnist`; batches are 64 random images. Of each rung the median over the rounds of the ratio of
both times in the same round is printed: above 1 the stack is faster.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from thalweg.ladders.mnist import RUNGS
from thalweg.training.stacked import Stack

BATCH = 64


def seconds(work: Callable[[], None], steps: int, device: str) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def ratio(build: Callable[[], nn.Module], options: argparse.Namespace) -> tuple[float, float]:
    """The median ratio, and milliseconds a step of all seeds one after another."""
    images = torch.rand(options.seeds, BATCH, 1, 28, 28, device=options.device)
    labels = torch.randint(0, 10, (options.seeds, BATCH), device=options.device)
    models = [build().to(options.device) for _ in range(options.seeds)]
    optimisers = [torch.optim.Adam(model.parameters(), fused=True) for model in models]
    stack = Stack([build().to(options.device) for _ in range(options.seeds)], 1e-3)

    def one_by_one() -> None:
        for model, optimiser, batch, of_batch in zip(models, optimisers, images, labels, strict=True):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(batch), of_batch).backward()
            optimiser.step()

    def at_once() -> None:
        stack.step(images, labels)

    for work in (one_by_one, at_once):
        seconds(work, 3, options.device)
    rounds = [
        (seconds(one_by_one, options.steps, options.device), seconds(at_once, options.steps, options.device))
        for _ in range(options.rounds)
    ]
    alone = statistics.median(first for first, _ in rounds) / options.steps
    return statistics.median(first / second for first, second in rounds), 1000 * alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rungs", nargs="*", metavar="RUNG", help="by name; all without")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for rung in RUNGS:
        if not options.rungs or rung.name in options.rungs:
            gain, alone = ratio(rung.build, options)
            print(f"{rung.name:28} {gain:5.2f} times as fast at once; one after another {alone:.1f} ms", flush=True)


if __name__ == "__main__":
    main()
