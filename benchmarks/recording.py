"""What recording costs beside the bare forward pass, and beside other ways of finding what drives units:
python -m benchmarks.recording [CASE]... [--stimuli N] [--batch-size N] [--rounds 7] [--threads 1] [--alone] [--memory]
    [--twins] [--directions N] [--device cuda] [--precision float16]

All go through the same network and batches in one process. thalweg and the bare pass take turns batch by batch, so that
a machine that others use too is as fast for one as for the other; the rest follow in each round. Of each, the median
over the rounds of its time over the bare pass's in the same round is printed. With `--alone` the rest stay away. Cases:
`dense` (784-256-10: the hidden units, which are what a survey records of it), `logits` (the same and its ten logits),
`resnet50` (all convolutions of the four stages, 224 pixels) and `gpt2` (all neurons of the perceptrons of a network of
GPT-2 small's shape, at the last of 24 tokens). Weights and stimuli are random numbers.

With `--twins` the rotated twin is recorded in the same pass, each layer behind its nonlinearity, as a survey does it.
The 256 stimuli from which a survey learns the units' standard deviations beforehand are not in these times. On another
device than the CPU stimuli lie there from the start, passes are not interleaved, and the rest stays away; channels are
last in both passes.

- `thalweg`: the 64 highest and lowest stimuli, the shared sample and the moments of every unit. Published convnets run
  with their channels last, as thalweg loads them; `thalweg, as given` records the network as its library makes it, and
  `thalweg, both so` says what recording costs beside a bare pass that has its channels last too.
- `store everything`: one value a unit and stimulus, pooled like thalweg's, kept in memory, sorted at the end.
- `zennit-crp`: its `Maximization`, given the activations by a hook (pip install --no-deps zennit zennit-crp): the 40
  highest, and their places. No relevance is computed, which it would do as well.
- `run_with_cache`: TransformerLens's, over the bare pass of TransformerLens's own network of the same shape; the 64
  highest are kept from batch to batch.

They run on one thread, whose own seconds count, and freed memory stays with the process, as where thalweg runs its
tasks. The bare pass of `gpt2` computes no logits, as nobody reads them while recording. With `--memory`, each case is
recorded in processes of its own, over N and over 2 N stimuli that are made batch by batch, and the peaks are printed.
"""

import argparse
import ctypes
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from thalweg import Layer
from thalweg.compute.devices import PRECISIONS, channels_last, given, in_precision
from thalweg.compute.workers import memory_kept
from thalweg.models.hooks import skip_logits
from thalweg.models.pooling import pooled, units_on_axis_1
from thalweg.packages import prepare_torchvision
from thalweg.recording.limits import DIRECTIONS
from thalweg.recording.readout import NEURONS, RANDOM
from thalweg.recording.record import record
from thalweg.recording.settings import RecordingSettings

K = 64
ROUNDS = 7
ADDR_NO_RANDOMIZE = 0x40000  # of Linux's personality
TOKENS, VOCABULARY = 24, 50257
BARE, OURS = "bare", "thalweg"
clock = time.process_time  # on one thread of a CPU; else the clock on the wall


def as_made(model: nn.Module) -> nn.Module:
    return model


@dataclass(frozen=True)
class Case:
    """A network, where its units are, and random stimuli for it."""

    title: str
    make: Callable[[], nn.Module]
    layers: Callable[[nn.Module], list[Layer]]
    batch: Callable[[int], Tensor]
    stimuli: int
    size: int  # of a batch
    loaded: Callable[[nn.Module], nn.Module] = as_made  # what thalweg makes of such a network when it loads one


@dataclass(frozen=True)
class Noise:
    """Stimuli made of random numbers, batch by batch: each batch has a seed of its own, none is kept."""

    make: Callable[[int], Tensor]
    count: int
    labels: Tensor
    modality: str = "noise"

    def __len__(self) -> int:
        return self.count

    def batch(self, which: Tensor) -> Tensor:
        torch.manual_seed(int(which[0]))
        return self.make(len(which))


@dataclass
class TurnAbout:
    """Stimuli of which each batch goes through the bare model, whose time is taken, before it is given out."""

    stimuli: Noise
    model: nn.Module
    seconds: float = 0
    modality: str = "noise"

    def __len__(self) -> int:
        return len(self.stimuli)

    def batch(self, which: Tensor) -> Tensor:
        start = clock()
        with torch.inference_mode():
            self.model(self.stimuli.batch(which))
        self.seconds += clock() - start
        return self.stimuli.batch(which)


@dataclass(frozen=True)
class Kept(Noise):
    """Such stimuli kept in memory, so that making them is no part of what is timed."""

    all: Tensor | None = None

    def batch(self, which: Tensor) -> Tensor:
        return self.all[which]


def dense() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))


def digits(count: int) -> Tensor:
    return torch.rand(count, 1, 28, 28)


def resnet50() -> nn.Module:
    prepare_torchvision()
    from torchvision.models import resnet50

    return resnet50()


def convolutions(model: nn.Module) -> list[Layer]:
    named = model.named_modules()
    names = [name for name, part in named if name.startswith("layer") and isinstance(part, nn.Conv2d)]
    return [Layer(name, nonlinearity=torch.relu) for name in names]


def gpt2() -> nn.Module:
    prepare_torchvision()
    from transformers import GPT2Config, GPT2LMHeadModel

    from thalweg.subjects.transformers_models import adapted

    return adapted(GPT2LMHeadModel(GPT2Config()), ())


def neurons(model: nn.Module) -> list[Layer]:
    gelu = partial(nn.functional.gelu, approximate="tanh")
    names = [name for name, _ in model.named_modules() if name.endswith("mlp.c_fc")]
    return [Layer(name, "last", gelu, unit_axis=2) for name in names]


CASES = {
    "dense": Case("784-256-10", dense, lambda _model: [Layer("1", nonlinearity=torch.relu)], digits, 60_000, 1000),
    "logits": Case(
        "784-256-10, logits too",
        dense,
        lambda _model: [Layer("1", nonlinearity=torch.relu), Layer("3")],
        digits,
        60_000,
        1000,
    ),
    "resnet50": Case(
        "ResNet-50 at 224 pixels",
        resnet50,
        convolutions,
        lambda n: torch.randn(n, 3, 224, 224),
        256,
        8,
        channels_last,
    ),
    "gpt2": Case(
        f"GPT-2 small's shape, {TOKENS} tokens",
        gpt2,
        neurons,
        lambda n: torch.randint(VOCABULARY, (n, TOKENS)),
        512,
        64,
    ),
}


def over_batches(forward: Callable[[Tensor], object], stimuli: Noise, size: int) -> None:
    with torch.inference_mode():
        for ids in torch.arange(len(stimuli)).split(size):
            forward(stimuli.batch(ids))
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def hooks(model: nn.Module, layers: list[Layer], read: Callable[[Layer, Tensor], None]) -> Iterator[None]:
    """Call `read` with each layer's output as it arises."""
    modules = dict(model.named_modules())
    handles = [
        modules[layer.name].register_forward_hook(lambda _m, _given, output, layer=layer: read(layer, output))
        for layer in layers
    ]
    yield
    for handle in handles:
        handle.remove()


def ours(model: nn.Module, layers: list[Layer], stimuli: Noise | TurnAbout, settings: RecordingSettings) -> None:
    record(model, layers, stimuli, torch.arange(len(stimuli)), settings)


def stored(model: nn.Module, layers: list[Layer], stimuli: Noise, size: int) -> None:
    kept: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
    with hooks(model, layers, lambda layer, output: kept[layer.name].append(_value(layer, output))):
        over_batches(model, stimuli, size)
    for values in kept.values():
        torch.cat(values).sort(dim=0, descending=True)


def _value(layer: Layer, output: Tensor) -> Tensor:
    return pooled(units_on_axis_1(output, layer), layer.reduction).clone()


def crp(model: nn.Module, layers: list[Layer], stimuli: Noise, size: int) -> None:
    from crp.concepts import ChannelConcept
    from crp.maximization import Maximization

    seen = 0

    def read(layer: Layer, output: Tensor) -> None:
        ids = torch.arange(seen, seen + len(output)).numpy()
        maximization.analyze_layer(output, ChannelConcept(), layer.name, ids, [0] * len(output))

    with tempfile.TemporaryDirectory() as folder, hooks(model, layers, read), torch.inference_mode():
        maximization = Maximization("activation", max_target="max", path=folder)
        for ids in torch.arange(len(stimuli)).split(size):
            model(stimuli.batch(ids))
            seen += len(ids)


def lens() -> nn.Module:
    """TransformerLens's network of GPT-2 small's shape."""
    prepare_torchvision()
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    shape = {"n_layers": 12, "d_model": 768, "n_ctx": 1024, "d_head": 64, "n_heads": 12, "d_mlp": 3072}
    return HookedTransformer(HookedTransformerConfig(**shape, d_vocab=VOCABULARY, act_fn="gelu_new", device="cpu"))


def with_cache(model: nn.Module, stimuli: Noise, size: int) -> None:
    best: dict[str, tuple[Tensor, Tensor]] = {}
    seen = 0

    def forward(batch: Tensor) -> None:
        nonlocal seen
        wanted = {"names_filter": lambda name: name.endswith("mlp.hook_pre"), "pos_slice": -1, "return_type": None}
        _, cache = model.run_with_cache(batch, **wanted)
        for name, values in cache.items():
            values, ids = values.flatten(1).T, torch.arange(seen, seen + len(batch)).expand(values.shape[-1], -1)
            if name in best:
                values, ids = torch.cat([best[name][0], values], 1), torch.cat([best[name][1], ids], 1)
            top = values.topk(min(K, values.shape[1]), 1)
            best[name] = (top.values, ids.gather(1, top.indices))
        seen += len(batch)

    over_batches(forward, stimuli, size)


Contest = dict[str, tuple[Callable[[], float | None], str]]  # by name: what is timed, and against which pass


def recording_settings(case: Case, options: argparse.Namespace) -> RecordingSettings:
    return RecordingSettings(
        bases=(NEURONS, RANDOM) if options.twins else (NEURONS,),
        batch_size=options.batch_size or case.size,
        device=options.device,
        precision=options.precision,
        directions=options.directions,
    )


def on_device(case: Case, stimuli: Noise, settings: RecordingSettings) -> Contest:
    """The bare pass and thalweg's, one after the other, of the network as thalweg loads it."""
    model = in_precision(case.loaded(case.make().eval()).to(settings.device), PRECISIONS[settings.precision])
    layers = case.layers(model)

    def bare() -> None:
        with skip_logits(model, layers):
            over_batches(model, stimuli, settings.batch_size)

    return {BARE: (bare, BARE), OURS: (partial(ours, model, layers, stimuli, settings), BARE)}


def contest(name: str, case: Case, stimuli: Noise, settings: RecordingSettings) -> Contest:
    model = in_precision(case.make().eval(), PRECISIONS[settings.precision])
    layers, size = case.layers(model), settings.batch_size
    loaded = case.loaded(deepcopy(model))
    pairs = {OURS: (loaded, model)}
    if case.loaded is not as_made:
        pairs |= {f"{OURS}, as given": (model, model), f"{OURS}, both so": (loaded, loaded)}
    contest: Contest = {
        which: (partial(turn_about, first, deepcopy(other), layers, stimuli, settings), BARE)
        for which, (first, other) in pairs.items()
    }
    contest["store everything"] = (partial(stored, model, layers, stimuli, size), BARE)
    needed = "transformer_lens" if name == "gpt2" else "crp"
    if find_spec(needed) is None:
        print(f"left out, as it is not installed: {needed}")
    elif name == "gpt2":
        hooked = lens().eval()
        bare = "bare (TransformerLens)"
        contest[bare] = (partial(over_batches, partial(hooked, return_type=None), stimuli, size), bare)
        contest["run_with_cache"] = (partial(with_cache, hooked, stimuli, size), bare)
    else:
        contest["zennit-crp"] = (partial(crp, model, layers, stimuli, size), BARE)
    return contest


def turn_about(
    model: nn.Module, twin: nn.Module, layers: list[Layer], stimuli: Noise, settings: RecordingSettings
) -> float:
    """Record, with the bare pass of the model's twin before each batch; the seconds that the bare pass took."""
    both = TurnAbout(stimuli, twin)
    with skip_logits(twin, layers):
        ours(model, layers, both, settings)
    return both.seconds


def timed(function: Callable[[], float | None]) -> tuple[float, float]:
    """The seconds that it took but for those that it says the bare pass took, and these."""
    start = clock()
    beside = function() or 0
    return clock() - start - beside, beside


def compare(name: str, options: argparse.Namespace) -> None:
    case = CASES[name]
    count = options.stimuli or case.stimuli
    torch.manual_seed(0)
    settings = recording_settings(case, options)
    there = given(case.batch(count), options.device, PRECISIONS[options.precision])
    stimuli = Kept(case.batch, count, torch.zeros(count, dtype=torch.int64), all=there)
    here = options.device == "cpu"
    contestants = contest(name, case, stimuli, settings) if here else on_device(case, stimuli, settings)
    if options.alone and here:
        contestants = {which: contestant for which, contestant in contestants.items() if which.startswith(OURS)}
    if here:
        few = replace(stimuli, count=min(count, 4 * case.size))
        over_batches(in_precision(case.make().eval(), PRECISIONS[options.precision]), few, case.size)  # warms up
    for function, _ in [] if here else contestants.values():
        function()
    times: dict[str, list[float]] = {which: [] for which in (BARE, *contestants)}
    ratios: dict[str, list[float]] = {which: [] for which in times}
    for _ in range(options.rounds):
        for which, (function, against) in contestants.items():
            taken, beside = timed(function)
            times[which].append(taken)
            if which == OURS and beside:
                times[BARE].append(beside)
            if which != against:
                ratios[which].append(taken / (beside or times[against][-1]))
    twins = ", rotated twin too" if options.twins else ""
    place = f"{torch.get_num_threads()} threads" if here else torch.cuda.get_device_name()
    print(f"{case.title}{twins}: {count} stimuli, batches of {settings.batch_size}, {place}, {options.precision}")
    for which, taken in times.items():
        sorted_ratios = sorted(ratios[which])
        spread = (
            f"{statistics.median(sorted_ratios):.3f} ({sorted_ratios[0]:.3f} to {sorted_ratios[-1]:.3f})"
            if sorted_ratios
            else ""
        )
        print(f"  {which:24} {statistics.median(taken):8.3f} s  {spread}", flush=True)


def peak(name: str, options: argparse.Namespace) -> None:
    """Print the most memory that this process has held, in KiB, after a recording."""
    case, count = CASES[name], options.stimuli
    model = case.loaded(case.make().eval())
    stimuli = Noise(case.batch, count, torch.zeros(count, dtype=torch.int64))
    ours(model, case.layers(model), stimuli, recording_settings(case, options))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def same_addresses() -> None:
    """Have the process that starts next lay out its memory as another does: left to chance, the peak of GPT-2's shape
    varies by a tenth from run to run.
    """
    ctypes.CDLL(None).personality(ADDR_NO_RANDOMIZE)


def memory(name: str, options: argparse.Namespace) -> None:
    count = options.stimuli or 2 * CASES[name].stimuli
    peaks = {}
    for many in (count, 2 * count):
        command = [sys.executable, "-m", "benchmarks.recording", name, "--peak", "--stimuli", str(many)]
        command += ["--threads", str(options.threads)] + ["--twins"] * options.twins
        printed = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=same_addresses).stdout
        peaks[many] = int(printed) / 1024
        print(f"{CASES[name].title}: {many} stimuli, peak {peaks[many]:.1f} MiB", flush=True)
    print(f"  growth when stimuli double: {100 * (peaks[2 * count] / peaks[count] - 1):.2f} %")


def main() -> None:
    global clock
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", default=[*CASES], choices=[[], *CASES], metavar="CASE")
    parser.add_argument("--stimuli", type=int)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=[*PRECISIONS], default="float32")
    parser.add_argument("--twins", action="store_true")
    parser.add_argument("--directions", type=int, default=DIRECTIONS)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.device != "cpu" or options.threads > 1:
        clock = time.perf_counter
    run = peak if options.peak else memory if options.memory else compare
    with memory_kept():
        for name in options.cases:
            run(name, options)


if __name__ == "__main__":
    main()
