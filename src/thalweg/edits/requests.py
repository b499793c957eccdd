"""Facts as tokens: what is edited, and what is asked afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn
from torch.nn import functional

from thalweg.errors import ThalwegError, user_code
from thalweg.models.hooks import answer_in

Tokens = tuple[int, ...]
Answer = Literal["new", "true"]
AT_ONCE = 4096  # tokens in a batch of prompts, at most


@dataclass(frozen=True)
class Probe:
    """Prompts that are asked about with one pair of answers.

    Attributes:
        prompts: Each ends where its answer begins.
        true: The answer before the edit.
        new: The answer that the edit asks for.
        wants: Which of the two the edited model should prefer: `new` where the fact is meant, `true` beside it.
    """

    prompts: tuple[Tokens, ...]
    true: Tokens
    new: Tokens
    wants: Answer = "new"


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
        tokens: Prompts and answers.
        starts: Where each answer begins.
        sizes: How many tokens each answer has.
    """

    tokens: Int[Tensor, "prompt token"]
    starts: Int[Tensor, " prompt"]
    sizes: Int[Tensor, " prompt"]


def padded(prompts: Sequence[Tokens], answers: Sequence[Tokens]) -> Padded:
    """Each prompt with its answer behind it."""
    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    tokens = torch.zeros(len(rows), max(map(len, rows), default=0), dtype=torch.long)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = torch.tensor(row)
    starts, sizes = ([len(part) for part in parts] for parts in (prompts, answers))
    return Padded(tokens, torch.tensor(starts, dtype=torch.long), torch.tensor(sizes, dtype=torch.long))


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


def nats_of(batch: Padded, logits: Float[Tensor, "prompt token vocabulary"]) -> Float[Tensor, " prompt"]:
    """Mean nats of each answer's tokens, given the logits of all places; differentiable."""
    nats = functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch.tokens[:, 1:].flatten(), reduction="none")
    places = torch.arange(1, batch.tokens.shape[1])
    is_answer = (places >= batch.starts[:, None]) & (places < (batch.starts + batch.sizes)[:, None])
    return (nats.view(is_answer.shape) * is_answer).sum(1) / batch.sizes


@torch.inference_mode()
def answer_nats(model: nn.Module, prompts: Sequence[Tokens], answers: Sequence[Tokens]) -> Float64[Tensor, " prompt"]:
    """Mean nats per token of each answer after its prompt, teacher-forced.

    Prompts of like lengths are run together, so that little is filled up.

    Raises:
        ThalwegError: the model gave numbers that are not finite.
    """
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]) + len(answers[index]))
    result = torch.zeros(len(prompts), dtype=torch.float64)
    lengths = [len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
    for chosen in batches(order, lengths):
        batch = padded([prompts[index] for index in chosen], [answers[index] for index in chosen])
        nats = nats_of(batch, logits_of(model, batch.tokens)).double()
        if not nats.isfinite().all():
            raise ThalwegError("the model gave NaN or infinite logits on a fact's prompt")
        result[torch.tensor(chosen)] = nats
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
