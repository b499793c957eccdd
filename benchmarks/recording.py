"""What recording costs beside the bare forward pass: python -m benchmarks.recording [--stimuli 60000] [--rounds 7]

Both go through the same network and batches, turn about, in one process; the ratio of their medians is printed.
"""

import argparse
import statistics
import time

import torch
from torch import nn

from thalweg import Images, Layer
from thalweg.recording import record

BATCH = 1000


def forward(model: nn.Module, stimuli: Images) -> None:
    with torch.inference_mode():
        for ids in torch.arange(len(stimuli)).split(BATCH):
            model(stimuli.batch(ids))


def seconds(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def recording(model: nn.Module, stimuli: Images) -> None:
    record(model, [Layer("1"), Layer("3")], stimuli, torch.arange(len(stimuli)), batch_size=BATCH)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stimuli", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)).eval()
    pixels = torch.randint(0, 256, (told.stimuli, 1, 28, 28), dtype=torch.uint8)
    stimuli = Images(pixels, torch.zeros(told.stimuli, dtype=torch.int64), ("none",))
    forward(model, stimuli)
    bare, recorded = [], []
    for _ in range(told.rounds):
        bare.append(seconds(forward, model, stimuli))
        recorded.append(seconds(recording, model, stimuli))
    ratio = statistics.median(recorded) / statistics.median(bare)
    print(f"{told.stimuli} images through 784-256-10 on {torch.get_num_threads()} threads, medians of {told.rounds}:")
    print(f"bare forward pass {statistics.median(bare):.3f} s, with recording {statistics.median(recorded):.3f} s")
    print(f"ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
