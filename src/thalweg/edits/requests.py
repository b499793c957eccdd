"""Facts as tokens: what is edited, and what is asked afterwards."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn
from torch.nn import functional

from thalweg.compute.devices import all_finite
from thalweg.errors import ThalwegError, user_code
from thalweg.models.hooks import answer_in
from thalweg.recording.memory import GIB, available_memory
from thalweg.stimuli.windows import NO_TARGET

Tokens = tuple[int, ...]
Answer = Literal["new", "true"]
Edited = Callable[[Int[Tensor, " row"]], AbstractContextManager[None]]  # for a batch, from whose rows are
AT_ONCE = 4096  # tokens in a batch of prompts, at most


@dataclass(frozen=True)
class Probe:
    """Prompts that are asked about with one pair of answers.

    Attributes:
        prompts: Each ends where its answer begins.
        true: The answer before the edit.
        new: The answer that the edit asks for.
        wants: Which of the two the edited model should prefer: `new` where the fact is meant, `true` beside it.
        candidates: Other answers of one token that the wanted one must beat too; none where there are two alone.
    """

    prompts: tuple[Tokens, ...]
    true: Tokens
    new: Tokens
    wants: Answer = "new"
    candidates: Tokens = ()

    def rivals(self) -> tuple[Tokens, ...]:
        """All answers that are compared: the wanted one first, then the other of the two, then further ones."""
        wanted, other = (self.new, self.true) if self.wants == "new" else (self.true, self.new)
        return wanted, other, *((token,) for token in self.candidates if (token,) not in (wanted, other))


@dataclass(frozen=True)
class Request:
    """One fact to be edited, and the questions about it.

    Attributes:
        name: Of its own among the facts.
        prompt: Ends where the answer begins.
        subject_end: The place of the subject's last token in the prompt.
        true: The answer that the model gives.
        new: The answer that it is to give.
        probes: Further questions by the name of their measure: `paraphrase`, `neighbourhood`, ...
        essence: A prompt about the subject itself, whose continuation should stay; empty for none.
        essence_end: The place of the subject's last token in it.
        concept: What the fact is about, where several facts share it.
        language: The prompt's, `A` or `B`, where there are two.
    """

    name: str
    prompt: Tokens
    subject_end: int
    true: Tokens
    new: Tokens
    probes: Mapping[str, Probe] = field(default_factory=dict)
    essence: Tokens = ()
    essence_end: int = -1
    concept: str = ""
    language: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.subject_end < len(self.prompt):
            raise ThalwegError(f"fact {self.name!r}: its subject is not in its prompt")
        if not self.true or not self.new:
            raise ThalwegError(f"fact {self.name!r}: an answer has no tokens")

    def asked(self) -> dict[str, Probe]:
        """All questions: the edited prompt itself as `efficacy`, and the probes."""
        return {"efficacy": Probe((self.prompt,), self.true, self.new), **self.probes}


@dataclass(frozen=True, eq=False)
class Padded:
    """Prompts of different lengths in one tensor, filled up at the end, which a causal model never sees from before.

    Attributes:
        tokens: Prompts, and their answers but for the last token, which nothing comes after.
        targets: What an answer has next at each place, or NO_TARGET.
        starts: How many tokens each prompt has.
    """

    tokens: Int[Tensor, "prompt token"]
    targets: Int[Tensor, "prompt token"]
    starts: Int[Tensor, " prompt"]


def padded(prompts: Sequence[Tokens], answers: Sequence[Tokens]) -> Padded:
    """Each prompt with its answer behind it."""
    rows = [[*prompt, *answer[:-1]] for prompt, answer in zip(prompts, answers, strict=True)]
    tokens = torch.zeros(len(rows), max(map(len, rows), default=0), dtype=torch.long)
    targets = torch.full_like(tokens, NO_TARGET)
    for index, (row, prompt, answer) in enumerate(zip(rows, prompts, answers, strict=True)):
        tokens[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        targets[index, len(prompt) - 1 : len(prompt) - 1 + len(answer)] = torch.tensor(answer, dtype=torch.long)
    return Padded(tokens, targets, torch.tensor([len(prompt) for prompt in prompts], dtype=torch.long))


def logits_of(model: nn.Module, tokens: Int[Tensor, "prompt token"]) -> Float[Tensor, "prompt token vocabulary"]:
    """The model's logits in single precision, on the CPU.

    Raises:
        ThalwegError: the model cannot be run on the prompts, or returns something else.
    """
    weight = next(model.parameters(), None)
    with user_code(f"the model, on prompts of {tokens.shape[1]} tokens,"):
        logits = answer_in(model(tokens if weight is None else tokens.to(weight.device)))
    if logits is None or logits.ndim != 3 or logits.shape[:2] != tokens.shape:
        returned = "no tensor" if logits is None else f"a tensor of shape {tuple(logits.shape)}"
        raise ThalwegError(
            f"the model returned {returned} for {tuple(tokens.shape)} tokens; logits (prompt, token, vocabulary) were "
            "expected: `edit` takes causal language models"
        )
    return logits.float().cpu()


@torch.inference_mode()
def check_lengths(model: nn.Module, requests: Sequence[Request], continued: int) -> None:
    """Check, by one pass, that the model takes the longest prompt with what comes behind it, and that the logits of all
    continuations fit into memory.

    Args:
        model: Takes tokens.
        requests: The facts.
        continued: Tokens of the continuation of each fact's own prompt.

    Raises:
        ThalwegError: one of these is not so.
    """
    asked = [
        len(prompt) + len(answer) - 1
        for request in requests
        for probe in request.asked().values()
        for prompt in probe.prompts
        for answer in probe.rivals()
    ]
    longest = max(len(request.prompt) for request in requests) + continued
    vocabulary = logits_of(model, torch.zeros(1, 1, dtype=torch.long)).shape[-1]
    need, there = 4 * len(requests) * longest * vocabulary, available_memory()
    if continued and there is not None and need > there:
        raise ThalwegError(
            f"{continued:,} tokens behind each of {len(requests)} prompts (--continued) need about "
            f"{need / GIB:,.1f} GB of memory for their logits, and {there / GIB:.1f} GB are free; take fewer"
        )
    logits_of(model, torch.zeros(1, max(longest, *asked), dtype=torch.long))


def nats_of(batch: Padded, logits: Float[Tensor, "prompt token vocabulary"]) -> Float[Tensor, " prompt"]:
    """Mean nats of each answer's tokens, given the logits of all places; differentiable; 0 of an empty answer."""
    nats = functional.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), ignore_index=NO_TARGET, reduction="none"
    )
    sizes = (batch.targets != NO_TARGET).sum(1).clamp(min=1)
    return nats.view(batch.targets.shape).sum(1) / sizes


@torch.inference_mode()
def answer_nats(
    model: nn.Module,
    prompts: Sequence[Tokens],
    answers: Sequence[Tokens],
    *,
    owners: Sequence[int] | None = None,
    edited: Edited | None = None,
) -> Float64[Tensor, " prompt"]:
    """Mean nats per token of each answer after its prompt, teacher-forced.

    A prompt is run once for all its answers of one token. Prompts of like lengths are run together, so that little is
    filled up. With `edited`, a context for the model on a batch whose rows are of these `owners`.

    Raises:
        ThalwegError: the model gave numbers that are not finite.
    """
    behind = [answer if len(answer) > 1 else () for answer in answers]  # what is run behind the prompt
    whose = owners if owners is not None else [0] * len(prompts)
    asked: dict[tuple[Tokens, Tokens, int], list[int]] = {}
    for index, row in enumerate(zip(prompts, behind, whose, strict=True)):
        asked.setdefault(row, []).append(index)
    rows = list(asked)
    lengths = [len(prompt) + len(answer) for prompt, answer, _ in rows]
    result = torch.zeros(len(prompts), dtype=torch.float64)
    for chosen in batches(sorted(range(len(rows)), key=lengths.__getitem__), lengths):
        batch = padded([rows[row][0] for row in chosen], [rows[row][1] for row in chosen])
        with edited(torch.tensor([rows[row][2] for row in chosen])) if edited else nullcontext():
            logits = logits_of(model, batch.tokens)
        whole = nats_of(batch, logits).double()
        last = -logits[torch.arange(len(chosen)), batch.starts - 1].log_softmax(1)
        for place, number in enumerate(chosen):
            indices = asked[rows[number]]
            if behind[indices[0]]:
                result[indices] = whole[place]
            else:
                result[indices] = last[place, [answers[index][0] for index in indices]].double()
    if not all_finite(result):
        raise ThalwegError("the model gave NaN or infinite logits on a fact's prompt")
    return result


def batches(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Prompts that are run together, the shortest first: not too many tokens, and not twice as long as the first."""
    made: list[list[int]] = []
    for index in order:
        last = made[-1] if made else []
        if last and (len(last) + 1) * lengths[index] <= AT_ONCE and lengths[index] <= 2 * lengths[last[0]]:
            last.append(index)
        else:
            made.append([index])
    return made
