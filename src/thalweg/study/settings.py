"""How a study is made, and what simulated participants are like: the command line makes its options from these."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thalweg.errors import ThalwegError, readable
from thalweg.files.damage import content_of


def _setting(default: Any, help_: str) -> Any:
    return field(default=default, metadata={"help": help_})


@dataclass(frozen=True)
class StudySettings:
    """How a study is made; each field is an option of `thalweg study create`.

    Example:
        >>> from thalweg.study.settings import StudySettings
        >>> StudySettings(trials=24).catches
        3
    """

    units: int = _setting(12, "Units drawn of each model; all, where it has fewer.")
    trials: int = _setting(40, "Main trials that each participant answers.")
    participants: int = _setting(60, "Participants that are planned.")
    ladder: str = _setting("", "The ladder; by default the run's only one.")
    rung: tuple[str, ...] = _setting((), "The rung; may be given several times; all by default.")
    control: tuple[str, ...] = _setting(("trained",), "trained, or a twin; may be given several times.")
    seeds: int = _setting(1, "Networks of each rung that are asked about, the run's first seeds; a model each.")
    between: bool = _setting(False, "Each participant sees one model, as in the published study, and not all.")
    catch: int | None = _setting(None, "Catch trials for each participant; by default one for eight trials.")
    practice: int = _setting(5, "Trials of the practice, which is repeated until all are right.")
    matched: bool = _setting(False, "Only pairs of queries that low-level statistics can't decide.")
    per_unit: int = _setting(12, "The most different trials of a unit.")
    break_every: int = _setting(20, "After how many trials a break is offered.")
    wait: float = _setting(1.5, "Seconds before a trial can be answered.")
    title: str = _setting("Which example fits better?", "The page's title.")
    consent: str = _setting("", "A text file that says what participants consent to.")
    prolific_code: str = _setting("", "The completion code that Prolific gave the study.")
    seed: int = _setting(0, "Seed of all that is drawn.")

    @property
    def catches(self) -> int:
        """How many catch trials each participant gets."""
        return max(1, round(self.trials / 8)) if self.catch is None else self.catch

    def check(self) -> None:
        """Check the numbers.

        Raises:
            ThalwegError: one is out of range.
        """
        least: dict[str, float] = dict.fromkeys(
            ("units", "trials", "participants", "seeds", "per_unit", "break_every"), 1
        )
        least |= {"practice": 0, "wait": 0, "seed": 0} | ({} if self.catch is None else {"catch": 0})
        for name, low in least.items():
            if not low <= (value := getattr(self, name)) < math.inf:
                raise ThalwegError(f"--{name.replace('_', '-')} is {value}; at least {low} was expected")
        if self.catches > self.trials:
            raise ThalwegError(f"--catch is {self.catches}; no more than --trials ({self.trials}) was expected")

    def consent_text(self) -> str:
        """What the file says that participants consent to; nothing where none is given.

        Raises:
            ThalwegError: it cannot be read.
        """
        if not self.consent:
            return ""
        try:
            return content_of(Path(self.consent)).decode("utf-8").strip()
        except (OSError, UnicodeDecodeError) as wrong:
            raise ThalwegError(
                f"{readable(self.consent)}: a text file in UTF-8 was expected as --consent ({wrong})"
            ) from wrong


@dataclass(frozen=True)
class Crowd:
    """What synthetic participants are like; each field is an option of `thalweg study simulate`.

    Example:
        >>> from thalweg.study.settings import Crowd
        >>> round(Crowd(sensitivity=1.0).accuracy, 3)
        0.76
    """

    sensitivity: float = _setting(1.5, "d' of the mean unit: the share right is Phi(d'/sqrt 2).")
    unit_sd: float = _setting(0.5, "Standard deviation of d' between units.")
    person_sd: float = _setting(0.3, "Standard deviation of d' between participants.")
    lapse: float = _setting(0.02, "Share of trials that are answered without looking.")
    side_bias: float = _setting(0.0, "Standard deviation, between participants, of the bias towards one place.")
    careless: float = _setting(0.1, "Share of participants who never look, and are fast.")
    dropout: float = _setting(0.1, "Share of participants who leave before the end.")
    seed: int = _setting(0, "Seed of all that is drawn.")

    @property
    def accuracy(self) -> float:
        """The share of main trials that someone average answers rightly about the mean unit."""
        seen = 0.5 * (1 + math.erf(self.sensitivity / 2))
        return (1 - self.lapse) * seen + self.lapse / 2

    def check(self) -> None:
        """Check the numbers.

        Raises:
            ThalwegError: one is out of range.
        """
        for name in ("lapse", "careless", "dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ThalwegError(f"--{name} is {getattr(self, name)}; a share from 0 to 1 was expected")
        for name in ("unit_sd", "person_sd", "side_bias"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ThalwegError(f"--{name.replace('_', '-')} is {getattr(self, name)}; at least 0 was expected")
        if not math.isfinite(self.sensitivity):
            raise ThalwegError(f"--sensitivity is {self.sensitivity}; a number was expected, as 1.5")
