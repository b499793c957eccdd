"""What a pass keeps of the units of a layer, and how two recordings become one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from thalweg.recording.keys import EMPTY, Scramble, unpack
from thalweg.recording.moments import moments_of_union


@dataclass(frozen=True, eq=False)
class Recording:
    """What a pass keeps of the units of one layer in one basis."""

    high_keys: Int64[Tensor, "unit k"]  # largest first
    low_keys: Int64[Tensor, "unit k"]  # keys of the negated values, largest first: lowest value first
    sample_keys: Int64[Tensor, " sample"]  # scrambled ids of the shared random sample, increasing
    sample: Float32[Tensor, "sample unit"]
    count: Int64[Tensor, " unit"]  # finite values only
    nonfinite: Int64[Tensor, " unit"]
    mean: Float64[Tensor, " unit"]  # of the finite values
    deviations: Float64[Tensor, " unit"]  # sum of their squared differences from the mean
    products: Mapping[str, Float64[Tensor, "statistic unit"]]
    unit_ids: Int64[Tensor, " unit"]  # of the units in their layer
    scramble: Scramble
    size: int  # how many stimuli the shared sample may hold

    @property
    def k(self) -> int:
        """How many of the highest and of the lowest stimuli are kept."""
        return self.high_keys.shape[1]

    def highest(self) -> tuple[Float32[Tensor, "unit k"], Int64[Tensor, "unit k"]]:
        """Values and ids of the highest stimuli, highest first; NaN and -1 where there are fewer than k."""
        return self._ends(self.high_keys, 1)

    def lowest(self) -> tuple[Float32[Tensor, "unit k"], Int64[Tensor, "unit k"]]:
        """Values and ids of the lowest stimuli, lowest first; NaN and -1 where there are fewer than k."""
        return self._ends(self.low_keys, -1)

    def highest_values(self, count: int) -> Float32[Tensor, "unit count"]:
        """The values alone of so many of the highest stimuli."""
        return unpack(self.high_keys[:, :count])[0]

    def lowest_values(self, count: int) -> Float32[Tensor, "unit count"]:
        """The values alone of so many of the lowest stimuli."""
        return -unpack(self.low_keys[:, :count])[0]

    def _ends(self, keys: Tensor, sign: int) -> tuple[Tensor, Tensor]:
        values, order = unpack(keys)
        return values * sign, torch.where(keys == EMPTY, -1, self.scramble.invert(order))

    def sample_ids(self) -> Int64[Tensor, " sample"]:
        """The ids of the shared random sample."""
        return self.scramble.invert(self.sample_keys)

    def units(self, selection: slice) -> "Recording":
        """The recording of some of the units."""
        return replace(
            self,
            high_keys=self.high_keys[selection],
            low_keys=self.low_keys[selection],
            sample=self.sample[:, selection],
            count=self.count[selection],
            nonfinite=self.nonfinite[selection],
            mean=self.mean[selection],
            deviations=self.deviations[selection],
            products={name: product[:, selection] for name, product in self.products.items()},
            unit_ids=self.unit_ids[selection],
        )

    def variance(self) -> Float64[Tensor, " unit"]:
        """The population variance of the finite values; exactly 0 for a constant unit."""
        constant = self.highest_values(1)[:, 0] == self.lowest_values(1)[:, 0]
        return torch.where(constant, 0, self.deviations / self.count)


def to_tensors(recording: Recording) -> dict[str, Tensor]:
    """The recording as named tensors, to be kept in a file."""
    names = ("high_keys", "low_keys", "sample_keys", "sample", "count", "nonfinite", "mean", "deviations", "unit_ids")
    tensors: dict[str, Tensor] = {name: getattr(recording, name) for name in names}
    tensors |= {f"products.{name}": product for name, product in recording.products.items()}
    return tensors | {"settings": torch.tensor([recording.scramble.factor, recording.scramble.shift, recording.size])}


def from_tensors(tensors: Mapping[str, Tensor]) -> Recording:
    """The recording that was kept as named tensors."""
    factor, shift, size = tensors["settings"].tolist()
    fields = {name: tensor for name, tensor in tensors.items() if name != "settings" and "." not in name}
    products = {name.partition(".")[2]: tensor for name, tensor in tensors.items() if name.startswith("products.")}
    return Recording(**fields, products=products, scramble=Scramble(factor, shift), size=size)


def merge(first: Recording, second: Recording) -> Recording:
    """The recording of the union of two disjoint sets of stimuli.

    Raises:
        ValueError: the two were made with different settings, or of different units.
    """
    if (first.scramble, first.size, first.high_keys.shape) != (second.scramble, second.size, second.high_keys.shape):
        raise ValueError("only recordings of the same units, made with the same seed, k and sample size, can be merged")
    sample_keys = torch.cat([first.sample_keys, second.sample_keys])
    count, mean, deviations = moments_of_union(
        (first.count, first.mean, first.deviations), (second.count, second.mean, second.deviations)
    )
    kept = sample_keys.argsort()[: first.size]
    return Recording(
        high_keys=_largest(first.high_keys, second.high_keys),
        low_keys=_largest(first.low_keys, second.low_keys),
        sample_keys=sample_keys[kept],
        sample=torch.cat([first.sample, second.sample])[kept],
        count=count,
        nonfinite=first.nonfinite + second.nonfinite,
        mean=mean,
        deviations=deviations,
        products={name: product + second.products[name] for name, product in first.products.items()},
        unit_ids=first.unit_ids,
        scramble=first.scramble,
        size=first.size,
    )


def _largest(first: Int64[Tensor, "unit k"], second: Int64[Tensor, "unit k"]) -> Int64[Tensor, "unit k"]:
    """The k largest of both, largest first; NumPy sorts them several times faster than PyTorch's top-k finds them."""
    both = np.sort(torch.cat([first, second], 1).numpy())
    return torch.from_numpy(both[:, : -first.shape[1] - 1 : -1].copy())


def concat_units(recordings: Sequence[Recording]) -> Recording:
    """The units of several recordings of the same stimuli beside each other, as if they were of one layer."""
    first = recordings[0]
    return replace(
        first,
        high_keys=torch.cat([recording.high_keys for recording in recordings]),
        low_keys=torch.cat([recording.low_keys for recording in recordings]),
        sample=torch.cat([recording.sample for recording in recordings], 1),
        count=torch.cat([recording.count for recording in recordings]),
        nonfinite=torch.cat([recording.nonfinite for recording in recordings]),
        mean=torch.cat([recording.mean for recording in recordings]),
        deviations=torch.cat([recording.deviations for recording in recordings]),
        products={
            name: torch.cat([recording.products[name] for recording in recordings], 1) for name in first.products
        },
        unit_ids=torch.cat([recording.unit_ids for recording in recordings]),
    )
