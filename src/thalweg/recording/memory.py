"""The memory that is free and that recording a model needs: what cannot fit is refused before the long work.

What a recording keeps depends on units, `k` and the sample, not on the stimuli, so its size is known beforehand. Only
the large pieces are counted, and the sum errs to the low side: what is refused could not have been done.
"""

import resource
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from thalweg.compute.devices import given, placed
from thalweg.errors import ThalwegError
from thalweg.models.hooks import capture_activations, run
from thalweg.models.pooling import highest_of_places, units_on_axis_1
from thalweg.models.records import Layer
from thalweg.recording.readout import RANDOM, directions
from thalweg.recording.settings import RecordingSettings
from thalweg.stimuli.base import Stimuli

GIB = 1 << 30
ROWS = 50 * 100 * 2  # bytes: of a unit's rows in the tables, of which there are more than fifty, twice
WORTH_SAYING = 2 * GIB  # a task that needs more says so beforehand


def available_memory() -> int | None:
    """The bytes that this process may still take: what the machine has free, the control group and the limit of the
    process allow; None where nothing says.
    """
    known = [size for size in (_of_machine(), *_of_group(), _of_process()) if size is not None]
    return max(0, min(known)) if known else None


def _of_machine() -> int | None:
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 1024
    return None


def _of_group() -> list[int]:
    """The memory that the control group (of a container) leaves: its limit less what its processes hold."""
    free = []
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):
            root = Path("/sys/fs/cgroup")
            most, now = int((root / limit).read_text()), int((root / used).read_text())
            free.append(most - now + _reclaimable(root / Path(used).parent / "memory.stat"))
    return free


def _reclaimable(statistics: Path) -> int:
    """Bytes of files that the group keeps in memory and gives up when asked."""
    with suppress(OSError, ValueError):
        pairs = dict(line.split() for line in statistics.read_text().splitlines())
        return int(pairs.get("inactive_file", 0)) + int(pairs.get("active_file", 0))
    return 0


def _of_process() -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    with suppress(OSError, ValueError, IndexError):
        return limit - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return limit


@dataclass(frozen=True)
class Width:
    """How wide a layer is: its units, how many are measured, and the numbers that it gives for one stimulus."""

    layer: str
    units: int
    measured: int
    numbers: int
    at_places: bool = False  # a unit's value is its highest of several places


def widths(model: nn.Module, layers: Sequence[Layer], stimuli: Stimuli, *, device: str = "cpu") -> list[Width]:
    """How wide the layers are, found by running the model on one stimulus."""
    model = placed(model.eval(), device)
    precision = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), torch.float32)
    with torch.inference_mode(), capture_activations(model, layers) as outputs:
        run(model, given(stimuli.batch(torch.arange(1)), device, precision))
        return [_width(layer, outputs[layer.name]) for layer in layers]


def _width(layer: Layer, output: Tensor) -> Width:
    laid = units_on_axis_1(output, layer)
    units = laid.shape[1]
    measured = len(layer.unit_ids) or min(layer.max_units or units, units)
    return Width(layer.name, units, measured, output.numel(), highest_of_places(laid, layer))


def needed(
    wide: Sequence[Width],
    controls: Sequence[str],
    settings: RecordingSettings,
    *,
    basis: str,
    stimuli: int,
    statistics: int = 0,
) -> int:
    """The bytes that recording a model and its twins takes at least.

    Each half of the pool keeps of each unit 2 k keys of 8 bytes, the sample in float32, and its products with so many
    statistics of the stimuli (a class or a token is one) in float64. Scoring holds all recordings once more, beside
    each other, and makes some dozens of rows of each unit. Counted too are the directions of a rotated layer, and a
    batch of a layer's outputs with what the nonlinearity makes of it.
    """
    each = 2 * 2 * (16 * settings.k + 4 * min(settings.sample, stimuli) + 8 * statistics) + ROWS
    kept, turning, passing = 0, 0, 0
    for width in wide:
        turned = directions(width.units, width.measured, settings.directions, at_places=width.at_places)
        for control in controls:
            kept += each * (turned if control == "rotated" or basis == RANDOM else width.measured)
        if "rotated" in controls or basis == RANDOM:
            turning = max(turning, 4 * width.units * turned)
        passing = max(passing, 2 * 4 * width.numbers * min(settings.batch_size, stimuli))
    return kept + turning + passing


def check(need: int, *, ladder: str, rung: str, device: str, at_once: int = 1) -> str:
    """A note on the memory that recording a model needs, if it is much; `at_once` are the tasks that this machine does
    at once.

    Raises:
        ThalwegError: more than there is.
    """
    there = available_memory()
    summary = f"recording needs about {need / GIB:.1f} GB of memory"
    if there is not None and need * at_once > there and device == "cpu":
        fits = there // need
        shared = f" for each of {at_once} workers" if at_once > 1 else ""
        fewer = f"give --workers {fits}, " if fits else ""
        raise ThalwegError(
            f"{summary}{shared}, and {there / GIB:.1f} GB are free; {fewer}measure fewer units (--units, or a Layer's "
            "`max_units` or `unit_ids`), keep less of each (--k, --sample), or give the model fewer stimuli at once "
            "(--batch-size)"
        )
    return f"ladder {ladder!r}, rung {rung!r}: {summary}, for each worker" if need > WORTH_SAYING else ""
