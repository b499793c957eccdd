"""What questions will cost, before they are asked, and what they have cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from thalweg.prompting.endpoint import prompt_tokens
from thalweg.prompting.questions import Question

SAMPLED = 40  # prompts of a form whose tokens are counted; the others are taken to be like them
MILLION = 1_000_000


@dataclass(frozen=True)
class Prices:
    """Prices of a million tokens, in the user's money."""

    prompt: float
    reply: float

    def of(self, prompt: int | float, reply: int | float) -> float:
        """What so many tokens cost."""
        return (prompt * self.prompt + reply * self.reply) / MILLION


@dataclass(frozen=True)
class Planned:
    """The questions of a form that are still to be asked, and about how many tokens they have."""

    form: str
    questions: int
    prompt_tokens: int
    reply_tokens: int


@dataclass(frozen=True)
class Plan:
    """What is about to be sent."""

    model: str
    where: str  # the endpoint's address; empty for a model of this machine
    forms: tuple[Planned, ...]
    done: int  # questions that are answered already
    prices: Prices | None = None

    @property
    def questions(self) -> int:
        """How many questions there are; of an endpoint, as many requests."""
        return sum(form.questions for form in self.forms)

    @property
    def cost(self) -> float | None:
        """About what they cost, if prices are known."""
        if self.prices is None:
            return None
        return sum(self.prices.of(form.prompt_tokens, form.reply_tokens) for form in self.forms)

    def lines(self) -> list[str]:
        """The plan in words."""
        lines = [
            f"{form.form}: {form.questions:,} questions, about {form.prompt_tokens:,} tokens of prompts and at most "
            f"{form.reply_tokens:,} of replies"
            for form in self.forms
        ]
        total = f"{self.questions:,} questions to {self.model}" + (
            f" at {self.where}" if self.where else ", on this machine"
        )
        total += f"; {self.done:,} are answered already" if self.done else ""
        if self.cost is not None:
            total += f"; about {self.cost:,.2f} at your prices"
        elif self.where:
            total += "; give --price-prompt and --price-reply (of a million tokens) to see what they cost"
        return [*lines, total]


def planned(form: str, questions: Sequence[Question], most: Callable[[Question], int]) -> Planned:
    """About how many tokens the questions of a form have, by those of a sample."""
    step = max(1, len(questions) // SAMPLED)
    sampled = [prompt_tokens(question.build()) for question in questions[::step]]
    mean = sum(sampled) / len(sampled) if sampled else 0.0
    return Planned(form, len(questions), round(mean * len(questions)), sum(map(most, questions)))


@dataclass
class Spending:
    """What has been spent, and what is on its way."""

    prices: Prices | None
    budget: float | None
    spent: float = 0.0
    reserved: float = 0.0
    prompt_tokens: int = 0
    reply_tokens: int = 0
    ended: bool = field(default=False)

    def reserve(self, question: Question, most: int) -> float | None:
        """Set aside what a question may cost; None where the budget does not hold that any more."""
        if self.prices is None or self.budget is None:
            return 0.0
        cost = self.prices.of(prompt_tokens(question.build()), most)
        if self.spent + self.reserved + cost > self.budget:
            self.ended = True
            return None
        self.reserved += cost
        return cost

    def settle(self, reserved: float, prompt: int, reply: int) -> None:
        """Note what a question cost in the end; where the endpoint counts nothing, what was set aside."""
        self.reserved -= reserved
        self.prompt_tokens += prompt
        self.reply_tokens += reply
        if self.prices is not None:
            self.spent += self.prices.of(prompt, reply) if prompt or reply else reserved
