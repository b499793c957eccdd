"""A causal language model of this machine as an observer: its answers are the log-probabilities of its options.

It is given the prompts as plain text. Where one of some letters is asked for, the letter of largest probability behind
`Answer:` is its answer. Where a list is asked for, each of its items is asked about by itself, yes or no. Where a
number stands for each token, it is the mean of the ten digits by their probabilities.
"""

import copy
import threading
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from thalweg.compute.devices import placed
from thalweg.errors import ThalwegError
from thalweg.prompting import prompts
from thalweg.prompting.parsing import expected
from thalweg.prompting.questions import LETTER, LIST, SENTENCE, Picture, Prompt, Question, Reply
from thalweg.subjects import transformers_models as models
from thalweg.subjects.checkpoints import Checkpoint, located

SENTENCE_TOKENS = 40
DIGITS = tuple(map(float, range(10)))
YES_NO = ("yes", "no")


class LocalModel:
    """A causal language model that transformers loads from files of this machine."""

    def __init__(self, checkpoint: Checkpoint, *, device: str = "cpu") -> None:
        located(checkpoint)
        self.checkpoint, self.device, self._lock = checkpoint, device, threading.Lock()

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.checkpoint.short

    @cached_property
    def model(self) -> Any:
        """The model, loaded when it is first needed."""
        return placed(models.load(self.checkpoint), self.device).eval()

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return models.tokenizer(self.checkpoint)

    @property
    def context(self) -> int | None:
        """How many tokens it has positions for, where its configuration says so."""
        positions = getattr(models.configuration(self.checkpoint).get_text_config(), "max_position_embeddings", None)
        return positions if isinstance(positions, int) and positions > 0 else None

    def check(self, longest: Sequence[Question]) -> None:
        """Check that it can be asked these questions, the longest of each form.

        Raises:
            ThalwegError: they hold pictures, or are too long for it.
        """
        for question in longest:
            prompt = question.build()
            if any(isinstance(part, Picture) for part in prompt):
                raise ThalwegError(
                    f"{self.name}: a causal language model takes no pictures, and these trials are of pictures; name a "
                    "vision-language model behind an endpoint (--base-url)"
                )
            needed = len(self._tokens(_text(prompt))) + _room(question)
            if self.context is not None and needed > self.context:
                raise ThalwegError(
                    f"{self.name}: a prompt of the form {question.form} and its reply have {needed} tokens, and the "
                    f"model has positions for {self.context}; show fewer references (--references 3) or take another "
                    "model"
                )

    async def reply(self, question: Question) -> Reply:
        """What it says to a question; computed in a thread, one question after another."""
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(None, partial(self._reply, question))

    def _reply(self, question: Question) -> Reply:
        with self._lock, torch.inference_mode():
            prompt = question.build()
            if question.reply == LETTER:
                return self._letter(prompt, question)
            if question.reply == LIST:
                return self._list(prompt, question)
            return self._sentence(prompt) if question.reply == SENTENCE else self._numbers(prompt, question)

    def _letter(self, prompt: Prompt, question: Question) -> Reply:
        read = _Reading(self, _text(prompt))
        shares = read.shares(question.options)
        best = max(range(len(shares)), key=shares.__getitem__)
        return Reply(question.options[best], shares, read.count, 1)

    def _list(self, prompt: Prompt, question: Question) -> Reply:
        """Each item by itself, after the same prompt."""
        common = _Reading(self, _text(prompt[:-1]))
        fuzzed = question.form.startswith("fuzzing")
        yes = []
        for option in question.options:
            asked = prompts.yes_or_no(prompt, option, "text", fuzzed=fuzzed)
            yes.append(common.after(_text(asked[-1:])).shares(YES_NO)[0])
        text = ", ".join(option for option, share in zip(question.options, yes, strict=True) if share > 0.5)
        return Reply(text or "none", tuple(yes), common.count, len(yes))

    def _sentence(self, prompt: Prompt) -> Reply:
        made: list[int] = []
        read = _Reading(self, _text(prompt))
        before = read.count
        for _ in range(SENTENCE_TOKENS):
            token = int(read.logits.argmax())
            text = self.tokenizer.decode([*made, token], skip_special_tokens=True)
            if token in self._ends or (text.strip() and text.rstrip(" ").endswith("\n")):
                break
            made.append(token)
            read = read.after_tokens([token])
        text = self.tokenizer.decode(made, skip_special_tokens=True).strip()
        return Reply(text, (), before, len(made))

    def _numbers(self, prompt: Prompt, question: Question) -> Reply:
        read = _Reading(self, _text(prompt))
        lines: list[str] = []
        numbers: list[float] = []
        before = read.count
        for piece in question.pieces:
            read = read.after(f"{prompts.one_line(piece)}\t")
            shares = read.shares([f"{digit:.0f}" for digit in DIGITS], space=False)
            numbers.append(expected(DIGITS, shares))
            digit = max(range(len(shares)), key=shares.__getitem__)
            lines.append(f"{prompts.one_line(piece)}\t{digit}")
            read = read.after(f"{digit}\n")
        return Reply("\n".join(lines), tuple(numbers), before, read.count - before)

    @cached_property
    def _ends(self) -> set[int]:
        ends = getattr(self.model.generation_config, "eos_token_id", None)
        return set(ends if isinstance(ends, list) else [ends]) - {None}

    def _tokens(self, text: str, *, begin: bool = True) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=begin).ids)


class _Reading:
    """A model that has read some tokens: what it expects next, and its state."""

    def __init__(
        self, model: LocalModel, text: str = "", *, tokens: Sequence[int] = (), before: "_Reading | None" = None
    ) -> None:
        self._model = model
        ids = list(tokens) or model._tokens(text, begin=before is None)
        past: Any = copy.deepcopy(before.past) if before else None
        given = torch.tensor([ids], device=model.device)
        out = model.model(input_ids=given, past_key_values=past, use_cache=True)
        self.past: Any = out.past_key_values
        self.count: int = len(ids) + (before.count if before else 0)
        self.logits: Tensor = out.logits[0, -1].float()

    def after(self, text: str) -> "_Reading":
        """The same model, when it has read more."""
        return _Reading(self._model, text, before=self)

    def after_tokens(self, tokens: Sequence[int]) -> "_Reading":
        """The same, of tokens."""
        return _Reading(self._model, tokens=tokens, before=self)

    def shares(self, options: Sequence[str], *, space: bool = True) -> tuple[float, ...]:
        """The probabilities of some continuations among each other."""
        scores = torch.tensor([self._score(f" {option}" if space else option) for option in options])
        return tuple(scores.softmax(0).tolist())

    def _score(self, option: str) -> float:
        """The log-probability of a continuation."""
        read, total = self, 0.0
        tokens = self._model._tokens(option, begin=False)
        for place, token in enumerate(tokens):
            total += float(read.logits.log_softmax(0)[token])
            read = read.after_tokens([token]) if place + 1 < len(tokens) else read
        return total


def _text(prompt: Prompt) -> str:
    return "".join(part for part in prompt if isinstance(part, str))


def _room(question: Question) -> int:
    """Tokens that a reply may take."""
    each = {LETTER: 2, LIST: 30, SENTENCE: SENTENCE_TOKENS}
    return each.get(question.reply, 8 * len(question.pieces))
