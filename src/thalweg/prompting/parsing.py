"""Replies as answers. One that cannot be read is counted as failed, with the reason, and never as wrong."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.prompting.questions import LETTER, LIST, NUMBERS, Question, Reply

REFUSED, UNREADABLE = "refused", "no answer could be read"
REFUSING = re.compile(
    r"\b(i'?m sorry|i am sorry|i can(?:no|')t|i am unable|i'?m unable|as an ai|cannot (?:assist|help|comply))\b",
    re.IGNORECASE,
)
NONE = re.compile(r"^\W*none\b", re.IGNORECASE)
ARTICLE = re.compile(r"\bA\s+(?!(?:and|or|nor|is|because)\b)(?=[a-z])")  # "A word" names nothing
MOST_NUMBER = 9.0


@dataclass(frozen=True)
class Answer:
    """What a reply says.

    Attributes:
        picked: The positions of the queries that it picks; None where the reply is no answer.
        numbers: One for each query or token, where the reply has them.
        note: Why it is no answer; empty if it is one.
    """

    picked: tuple[int, ...] | None
    numbers: tuple[float, ...] = ()
    note: str = ""


def read_reply(question: Question, reply: Reply) -> Answer:
    """The answer in a reply."""
    text = reply.text.strip()
    answer: Answer | None
    if question.reply == LETTER:
        answer = _letter(text, question, reply)
    elif question.reply == LIST:
        answer = _list(text, question, reply)
    elif question.reply == NUMBERS:
        answer = _numbers(question, reply)
    else:
        answer = Answer(()) if text and not REFUSING.search(text) else None
    if answer is not None and not reply.refused:
        return answer
    refused = reply.refused or bool(REFUSING.search(text))
    return Answer(None, note=f"{REFUSED if refused else UNREADABLE}: {text[:80] or 'an empty reply'}")


def _letter(text: str, question: Question, reply: Reply) -> Answer | None:
    """One of the letters: alone, at the beginning, or the only one that is named."""
    letters = "".join(question.options)
    patterns = (
        rf"^\W*([{letters}])\W*$",
        rf"^\W*([{letters}])\s*[.:)\]*,]",
        rf"(?i:answer\W*(?:is)?)\W*([{letters}])\b",
    )
    for pattern in patterns:
        if found := re.search(pattern, text):
            return Answer((letters.index(found[1]),), reply.numbers)
    named = set(re.findall(rf"\b([{letters}])\b", ARTICLE.sub("", text)))
    return Answer((letters.index(named.pop()),), reply.numbers) if len(named) == 1 else None


def _list(text: str, question: Question, reply: Reply) -> Answer | None:
    """Numbers of queries, or `none`."""
    if NONE.search(text):
        return Answer((), reply.numbers)
    body = re.sub(r"(?i)^\W*answer\W*", "", text.splitlines()[0]) if text else ""
    if not re.fullmatch(r"[\s\d,;.&]*(?:and[\s\d,;.&]*)?", body):
        return None
    numbers = {int(number) for number in re.findall(r"\d+", body)}
    if not numbers or not numbers <= set(range(1, len(question.queries) + 1)):
        return None
    return Answer(tuple(sorted(number - 1 for number in numbers)), reply.numbers)


def _numbers(question: Question, reply: Reply) -> Answer | None:
    """A number for every token: from the endpoint's probabilities, or as they are written."""
    numbers = reply.numbers or written_numbers(reply.text)
    return Answer((), tuple(numbers)) if len(numbers) == len(question.pieces) else None


def written_numbers(text: str) -> tuple[float, ...]:
    """The numbers at the ends of lines, from 0 to 9."""
    found = [re.search(r"\t\s*(\d+(?:\.\d+)?)\s*$", line) for line in text.splitlines() if line.strip()]
    return tuple(min(float(each[1]), MOST_NUMBER) for each in found if each)


def expected(options: Sequence[float], probabilities: Sequence[float]) -> float:
    """The mean of some numbers by their probabilities."""
    whole = sum(probabilities)
    return sum(o * p for o, p in zip(options, probabilities, strict=True)) / whole if whole > 0 else 0.0
