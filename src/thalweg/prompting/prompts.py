"""The words that language models are asked in. A change of any of them raises `VERSION`: replies to other words are
other answers. (A test holds their hash.)
"""

from collections.abc import Sequence

from thalweg.prompting.questions import LETTERS, Picture, Prompt

VERSION = 1
SYSTEM = "You are a careful observer. Answer in exactly the form that is asked for, without explanation."
READ = {
    "last": "The response is read at the end of each text.",
    "max": "The response to a text is the highest one at any of its words.",
    "mean": "The response to a text is the mean over its words.",
}
WHAT = {"text": ("text", "texts"), "image": ("picture", "pictures"), "": ("item", "items")}
INTRODUCTION = "A unit of a neural network responds to some {many} strongly, and to others hardly or not at all."
HIGH = "These {many} drive the unit most:"
LOW = "These {many} drive it least:"
TYPICAL = "To these {many} it hardly responds:"
EXPLAINED = "In one sentence, this is what the unit responds to: {explanation}"
TWO = "Which of these two new {many} drives the unit more?"
TEN = "Here are {count} new {many}. Some of them drive the unit strongly, the others do not."
MARKED = "In each text, the words to which the unit responds are marked <<like this>>."
FUZZED = "Here are {count} new texts that drive the unit. In some the marked words are the right ones, in others not."
FIVE = "Four of these five {many} drive the unit. One does not belong with them."
ASK_LETTER = "Answer with one letter: {options}.\nAnswer:"
ASK_LIST = "Which {ones}? Answer with their numbers, separated by commas, or with: none.\nAnswer:"
ASK_SENTENCE = (
    "What do the {many} have in common that drive the unit, and the others lack? Answer with one short sentence that "
    "would let someone recognise new ones; do not quote them.\nAnswer:"
)
SIMULATE = (
    "Here is a text, one token a line. For each token say how strongly the unit responds at it, from 0 (not at all) to "
    "9 (most). Write every token again, then a tab, then the number.\n"
)
DRIVE, RIGHT = "of them drive the unit strongly", "of them have the right words marked"
EACH = {DRIVE: "Does {one} {option} drive the unit strongly?", RIGHT: "Are the right words marked in {one} {option}?"}
YES_NO = "Answer yes or no.\nAnswer:"
LAYOUT = ("{many}", "{name}: ", "\n", "\n\n")  # what stands between the parts; part of the version

Shown = str | Picture


def numbered(items: Sequence[Shown], names: Sequence[str]) -> list[Shown]:
    """Stimuli with their names, one a line."""
    return [part for name, item in zip(names, items, strict=True) for part in (f"{name}: ", item, "\n")]


def references(high: Sequence[Shown], low: Sequence[Shown], kind: str, *, lowest: bool, marked: bool = False) -> Prompt:
    """The introduction with references, which are marked or not; `lowest` says whether the others are a unit's lowest
    or typical ones.
    """
    many = WHAT[kind][1]
    parts: list[Shown] = [HIGH.format(many=many), "\n", *numbered(high, _numbers(high))]
    parts += [f"{MARKED}\n"] if marked else []
    if low:
        parts += ["\n", (LOW if lowest else TYPICAL).format(many=many), "\n", *numbered(low, _numbers(low))]
    return tuple(parts)


def explanation(sentence: str) -> Prompt:
    """The introduction with a sentence in place of references."""
    return (EXPLAINED.format(explanation=sentence), "\n")


def opening(kind: str, reduction: str) -> str:
    """What every prompt begins with."""
    read = f" {READ[reduction]}" if kind == "text" and reduction in READ else ""
    return f"{INTRODUCTION.format(many=WHAT[kind][1])}{read}\n\n"


def two(context: Prompt, queries: Sequence[Shown], kind: str) -> Prompt:
    """Which of two drives the unit more?"""
    asked = TWO.format(many=WHAT[kind][1])
    return (*context, "\n", asked, "\n", *numbered(queries, LETTERS[:2]), ASK_LETTER.format(options="A or B"))


def several(context: Prompt, queries: Sequence[Shown], kind: str, *, fuzzed: bool) -> Prompt:
    """Which of some drive the unit, or have the right words marked?"""
    said = FUZZED if fuzzed else TEN
    asked = said.format(many=WHAT[kind][1], count=len(queries))
    ones = RIGHT if fuzzed else DRIVE
    return (*context, "\n", asked, "\n", *numbered(queries, _numbers(queries)), ASK_LIST.format(ones=ones))


def odd_one_out(queries: Sequence[Shown], kind: str) -> Prompt:
    """Which of five does not belong?"""
    asked = FIVE.format(many=WHAT[kind][1])
    return (asked, "\n", *numbered(queries, LETTERS), ASK_LETTER.format(options="A, B, C, D or E"))


def sentence(context: Prompt, kind: str) -> Prompt:
    """What do the stimuli that drive the unit have in common?"""
    return (*context, "\n", ASK_SENTENCE.format(many=WHAT[kind][1]))


def simulation(context: Prompt, pieces: Sequence[str]) -> Prompt:
    """How strongly does the unit respond at each token?"""
    return (*context, "\n", SIMULATE, "\n".join(map(one_line, pieces)), "\n\nAnswer:\n")


def yes_or_no(prompt: Prompt, option: str, kind: str, *, fuzzed: bool) -> Prompt:
    """The same list of queries, with a question about one of them: for a model that gives probabilities to words."""
    asked = EACH[RIGHT if fuzzed else DRIVE].format(one=WHAT[kind][0], option=option)
    return (*prompt[:-1], f"{asked} {YES_NO}")


def one_line(text: str) -> str:
    """A piece of text on a line of its own."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def marked(pieces: Sequence[str], marks: Sequence[bool]) -> str:
    """A text with some of its tokens marked, neighbours together."""
    inside = False
    out: list[str] = []
    for piece, mark in zip(pieces, marks, strict=True):
        out.append("<<" if mark and not inside else ">>" if inside and not mark else "")
        out.append(piece)
        inside = mark
    return "".join(out) + (">>" if inside else "")


def _numbers(items: Sequence[Shown]) -> list[str]:
    return [str(number) for number in range(1, len(items) + 1)]
