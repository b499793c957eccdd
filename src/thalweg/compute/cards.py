"""Which card a task runs on, where a machine has several or several tasks want one.

Tasks are processes that know nothing of each other, so a card is taken by locking one of its slots (a file) for as long
as the task runs; a process that dies leaves no lock behind.
"""

import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import filelock
import torch

PATIENCE = 0.05  # seconds between two looks for a free slot
ANSWERS_WITHIN = 10  # seconds that the driver has to say how much memory is free


def cards_of(device: str) -> tuple[str, ...]:
    """The cards that tasks may be given where a user names this device (`auto`, `cuda:1`); none on a CPU."""
    if device == "mps":
        return ("mps",)
    if device == "cpu" or not torch.cuda.is_available():
        return ()
    return (device,) if ":" in device else tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))


@dataclass(frozen=True)
class Slots:
    """The cards that tasks share, so many tasks on each at once; the folder holds the locks."""

    folder: Path
    cards: tuple[str, ...]
    tasks_per_card: int = 1

    def __len__(self) -> int:
        return len(self.cards) * self.tasks_per_card

    @contextmanager
    def card(self) -> Generator[str]:
        """A card for as long as the context lasts, and the one that `cuda` means: one with the fewest tasks and, of
        several, the most free memory. Waits until one is free.
        """
        while True:
            for slot in range(self.tasks_per_card):
                for card in by_free_memory(self.cards):
                    lock = filelock.FileLock(self.folder / f"{card.replace(':', '-')}-{slot}.lock", timeout=0)
                    try:
                        held = lock.acquire()
                    except filelock.Timeout:
                        continue
                    with held, torch.cuda.device(card) if torch.cuda.is_available() else nullcontext():
                        yield card
                    return
            time.sleep(PATIENCE)


def by_free_memory(cards: Sequence[str]) -> list[str]:
    """The cards, those with the most free memory first; as they are given where that is not known."""
    free = free_memory() if len(cards) > 1 else {}
    return sorted(cards, key=lambda card: -free.get(_uuid(card), 0)) if free else list(cards)


def free_memory() -> dict[str, int]:
    """The free memory of each card in MiB, by UUID, as the driver says; nothing where it does not.

    PyTorch could say it too, but would take some hundred MiB of each card to ask.
    """
    command = ["nvidia-smi", "--query-gpu=uuid,memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=ANSWERS_WITHIN, check=True).stdout
        pairs = [line.split(",") for line in answer.splitlines() if line.strip()]
        return {uuid.strip().removeprefix("GPU-"): int(free) for uuid, free in pairs}
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}


def _uuid(card: str) -> str:
    return str(getattr(torch.cuda.get_device_properties(card), "uuid", "")).removeprefix("GPU-")
