"""Facts as text, in the published layout of CounterFact, and as a model's tokens.

The file is a JSON array of records (Meng et al. 2022):

    {"case_id": 0,
     "requested_rewrite": {"prompt": "The mother tongue of {} is", "subject": "Danielle Darrieux",
                           "target_true": {"str": "French"}, "target_new": {"str": "English"}},
     "paraphrase_prompts": ["..."], "neighborhood_prompts": ["..."]}

Other fields are not needed. The subject may also stand in the prompt as it is, in place of `{}`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from thalweg.edits.requests import Probe, Request, Tokens
from thalweg.errors import ThalwegError, readable
from thalweg.files.damage import json_value

SUBJECT = "{}"  # where the subject stands in a prompt
ESSENCE = "{} is a"  # what is asked about the subject itself, as published


@dataclass(frozen=True)
class Fact:
    """A fact to be edited, as text.

    Attributes:
        name: Of its own in the file.
        subject: What it is about.
        prompt: Holds the subject, and ends where the answer begins.
        true: The answer before.
        new: The answer that is asked for.
        paraphrases: Other prompts of the same fact.
        neighbourhood: Prompts of the same relation about other subjects with the same true answer.
    """

    name: str
    subject: str
    prompt: str
    true: str
    new: str
    paraphrases: tuple[str, ...] = ()
    neighbourhood: tuple[str, ...] = ()


def read_facts(path: Path, *, limit: int = 0) -> tuple[Fact, ...]:
    """The facts in a file, the first so many where there is a limit.

    Raises:
        ThalwegError: the file cannot be read or has another layout, a subject is not in its prompt, or a fact is there
            twice; names the record.
    """
    records = json_value(path)
    if not isinstance(records, list) or not records:
        held = "an empty array" if records == [] else type(records).__name__
        raise ThalwegError(f"{readable(path)}: holds {held}; an array of records in CounterFact's layout was expected")
    facts = tuple(
        _fact(record, f"{readable(path)}, record {number}", number)
        for number, record in enumerate(records[: limit or None], 1)
    )
    seen: dict[tuple[str, str], str] = {}
    for fact in facts:
        key = fact.subject, fact.prompt
        if key in seen:
            raise ThalwegError(
                f"{readable(path)}: facts {seen[key]!r} and {fact.name!r} are about the same prompt, {fact.prompt!r}; "
                "leave out one of them"
            )
        seen[key] = fact.name
    if len({fact.name for fact in facts}) < len(facts):
        raise ThalwegError(f"{readable(path)}: two records have the same case_id")
    return facts


def _fact(record: Any, where: str, number: int) -> Fact:
    """A record as a fact.

    Raises:
        ThalwegError: it has another layout.
    """
    rewrite = _field(record, "requested_rewrite", dict, where)
    prompt, subject = (_field(rewrite, name, str, where) for name in ("prompt", "subject"))
    true, new = (
        _field(_field(rewrite, name, dict, where), "str", str, where) for name in ("target_true", "target_new")
    )
    prompts = []
    for name in ("paraphrase_prompts", "neighborhood_prompts"):
        texts = record.get(name, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
            raise ThalwegError(f"{where}: {name!r} is no array of texts")
        prompts.append(tuple(_whole(text, name, where) for text in texts))
    whole = prompt.replace(SUBJECT, subject, 1)
    if not subject.strip() or subject not in whole:
        raise ThalwegError(
            f"{where}: its subject {subject!r} is not in its prompt {prompt!r}; put {SUBJECT} where it stands"
        )
    if not true.strip() or not new.strip():
        raise ThalwegError(f"{where}: an answer is empty")
    return Fact(str(record.get("case_id", number)), subject, whole, true.strip(), new.strip(), *prompts)


def _field(record: Any, name: str, kind: type, where: str) -> Any:
    value = record.get(name) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        expected = "an object" if kind is dict else "a text"
        raise ThalwegError(f"{where}: {name!r} is missing or not {expected}; CounterFact's layout was expected")
    return _whole(str(value), name, where) if kind is str else value


def _whole(text: str, name: str, where: str) -> str:
    """A text, if there is no half character in it, which no tokenizer takes.

    Raises:
        ThalwegError: there is.
    """
    try:
        text.encode()
    except UnicodeEncodeError as half:
        raise ThalwegError(
            f"{where}: {name!r} has half a character, {text[half.start]!r}, at place {half.start + 1}; mend or leave "
            "out the record"
        ) from half
    return text


@dataclass(frozen=True)
class Encoded:
    """Facts as tokens, and why others were left out: a line for each, by the fact's name."""

    requests: tuple[Request, ...]
    left_out: dict[str, str]


def encode_facts(facts: Sequence[Fact], tokenizer: Tokenizer) -> Encoded:
    """Facts as a model's tokens.

    A fact is left out where its two answers are the same or have different numbers of tokens (their likelihoods would
    not compare), and where a prompt and its answer merge into one token.

    Raises:
        ThalwegError: none is left.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    requests: list[Request] = []
    left_out: dict[str, str] = {}
    for fact in facts:
        try:
            requests.append(_request(fact, tokenizer))
        except ThalwegError as wrong:
            left_out[fact.name] = str(wrong)
    if not requests:
        first = next(iter(left_out.items()), ("", "there are none"))
        raise ThalwegError(f"all {len(facts)} facts are left out; fact {first[0]!r}: {first[1]}")
    return Encoded(tuple(requests), left_out)


def _request(fact: Fact, tokenizer: Tokenizer) -> Request:
    """A fact as tokens.

    Raises:
        ThalwegError: it cannot be edited with this tokenizer.
    """
    prompt = _tokens(tokenizer, fact.prompt.rstrip())
    true, new = (_answer(tokenizer, fact.prompt, answer) for answer in (fact.true, fact.new))
    if true == new:
        raise ThalwegError(f"its answers are the same, {fact.true!r}")
    if len(true) != len(new):
        raise ThalwegError(
            f"its answers have different numbers of tokens, {fact.true!r} {len(true)} and {fact.new!r} {len(new)}"
        )
    essence = ESSENCE.replace(SUBJECT, fact.subject)
    edited = f"{fact.prompt} {fact.new}. "
    probes = {
        "paraphrase": _probe(tokenizer, fact.paraphrases, fact, "new"),
        "neighbourhood": _probe(tokenizer, fact.neighbourhood, fact, "true"),
        "neighbourhood_prepended": _probe(tokenizer, [edited + text for text in fact.neighbourhood], fact, "true"),
    }
    return Request(
        fact.name,
        prompt,
        _end(tokenizer, fact.prompt, fact.subject),
        true,
        new,
        {name: probe for name, probe in probes.items() if probe.prompts},
        _tokens(tokenizer, essence),
        _end(tokenizer, essence, fact.subject),
    )


def _probe(tokenizer: Tokenizer, texts: Sequence[str], fact: Fact, wants: Any) -> Probe:
    """Prompts with the fact's two answers. All prompts end in a word, so the answers' tokens are those of the fact."""
    true, new = (_answer(tokenizer, fact.prompt, answer) for answer in (fact.true, fact.new))
    return Probe(tuple(_tokens(tokenizer, text.rstrip()) for text in texts), true, new, wants)


def _tokens(tokenizer: Tokenizer, text: str) -> Tokens:
    return tuple(tokenizer.encode(text, add_special_tokens=False).ids)


def _answer(tokenizer: Tokenizer, prompt: str, answer: str) -> Tokens:
    """The tokens of an answer behind a prompt and a space.

    Raises:
        ThalwegError: they merge with the prompt's.
    """
    before, whole = _tokens(tokenizer, prompt.rstrip()), _tokens(tokenizer, f"{prompt.rstrip()} {answer}")
    if whole[: len(before)] != before or len(whole) == len(before):
        raise ThalwegError(f"the tokenizer merges its answer {answer!r} with its prompt {prompt!r}")
    return whole[len(before) :]


def _end(tokenizer: Tokenizer, text: str, subject: str) -> int:
    """The place of the subject's last token in a text."""
    last = text.index(subject) + len(subject.rstrip()) - 1
    offsets = tokenizer.encode(text, add_special_tokens=False).offsets
    return max((index for index, (start, end) in enumerate(offsets) if start <= last < end), default=-1)
