"""What a kind of stimulus brings: one record, which everything reads that depends on the kind.

`modalities` holds the records that ship. A new kind is a record in a file of the user's, given to a `Ladder` or a
`Subject` in place of a name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as declared
from typing import Any, Literal

from torch import Tensor

from thalweg.errors import ThalwegError
from thalweg.stimuli.showing import Shown

BATCH = 250  # stimuli that a model is given at once, unless its modality says otherwise


@dataclass(frozen=True)
class Modality:
    """A kind of stimulus: its low-level statistics, how a person is shown one, who observes it, and how it is named.

    Functions are given the set of stimuli (`thalweg.TensorStimuli`, or a class of your own). What is left out has a
    sensible meaning, so most modalities need the first four fields.

    Attributes:
        name: The modality's name, as tables, observers (`Observer.modality`) and messages say it.
        low_level: From stimuli to statistics (stimulus, statistic) that ask for no abstraction. Pairs of stimuli that
            these decide are left out of matched scores. None: the set has a method `low_level()`.
        show: From (stimuli, which, values) to what the report shows of one stimulus, a `Shown`. `values` are a unit's
            values along the stimulus, where there are any (`along`), from 0 (the least of all that are shown of the
            unit) to 1; else they are empty. None: the set has a method `show(which)`.
        observer: The headline's observer: a `thalweg.Observer`, or the name of one that ships. Empty: it must be named
            for each survey.
        along: Whether layers give a unit's values along a stimulus (at each token, at each moment), so that they can be
            shown.
        needs: The package that the observer needs, by the name it is imported by, if any.
        fallback: The name of the observer that takes its place where that package is not installed.
        batch_sizes: How many stimuli a published model is given at once, by type of device ("cpu", "cuda", "mps").
        strength: What a bit of strength is, in words. Empty: as the evaluation says it.
        field: What its ladders are called in a comparison of ladders. Empty: the name.
        tokens: Whether stimuli are `thalweg.Windows` of tokens, and models say the next token: a published model is
            judged by that, and may not look ahead.
        reduction: How a layer's values over places become one value of a unit, where no `Layer` says it.
        read: From (source, seed) to `Splits`, for `thalweg measure --stimuli`; with `tokens`, from
            (source, seed, length=..., tokenizer=...).
        specimens: From a subject's `view` (or None) to two stimuli as a model is given them, for `thalweg layers`.

    Raises:
        ThalwegError: a field holds something else.

    Example:
        >>> import thalweg
        >>> tone = thalweg.Modality("tone", low_level=lambda tones: tones.values.std(1, keepdim=True),
        ...                         show=lambda tones, which, values: thalweg.Shown("a tone", html="<i>ping</i>"))
        >>> tone.batch_size("cuda:1")
        250
    """

    name: str
    low_level: Callable[[Any], Tensor] | None = None
    show: Callable[[Any, int, Sequence[float]], Shown] | None = None
    observer: Any = ""
    along: bool = False
    needs: str = ""
    fallback: str = ""
    batch_sizes: Mapping[str, int] = declared(default_factory=dict)
    strength: str = ""
    field: str = ""
    tokens: bool = False
    reduction: Literal["max", "mean", "last"] = "max"
    read: Callable[..., Any] | None = None
    specimens: Callable[[Any], Tensor] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ThalwegError(f"thalweg.Modality: `name` is {self.name!r}; a name was expected")
        for each in ("low_level", "show", "read", "specimens"):
            if (value := getattr(self, each)) is not None and not callable(value):
                raise self._wrong(each, value, "a function")
        if not isinstance(self.observer, str) and not hasattr(self.observer, "features"):
            raise self._wrong("observer", self.observer, 'a name or thalweg.Observer("name", 1, function)')
        if not isinstance(self.batch_sizes, Mapping) or not all(map(_is_count, self.batch_sizes.values())):
            raise self._wrong("batch_sizes", self.batch_sizes, "whole numbers by type of device, as {'cpu': 8},")
        if self.reduction not in ("max", "mean", "last"):
            raise self._wrong("reduction", self.reduction, "'max', 'mean' or 'last'")

    def _wrong(self, name: str, value: object, expected: str) -> ThalwegError:
        return ThalwegError(f"modality {self.name!r}: `{name}` is {value!r:.80}; {expected} was expected")

    def batch_size(self, device: str) -> int:
        """How many stimuli a published model is given at once on a device; accelerators count as `cuda`."""
        kind = device.partition(":")[0]
        usual = BATCH if kind == "cpu" else self.batch_sizes.get("cuda", BATCH)
        return self.batch_sizes.get(kind, usual)

    def shown(self, stimuli: Any, which: int, values: Sequence[float] = ()) -> Shown:
        """One stimulus for a person to look at, with a unit's values along it, from 0 to 1, where there are any."""
        shown: Shown = self.show(stimuli, which, values) if self.show else stimuli.show(which)
        return shown


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
