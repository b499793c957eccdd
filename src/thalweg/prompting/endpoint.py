"""A language model behind an endpoint that speaks OpenAI's protocol: a hosted one, or a server of one's own."""

import base64
import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from thalweg.errors import ThalwegError, reason, unknown
from thalweg.packages import imported
from thalweg.prompting import prompts
from thalweg.prompting.parsing import expected
from thalweg.prompting.questions import LETTER, LIST, NUMBERS, SENTENCE, Picture, Prompt, Question, Reply

LEAST_SIDE = 112  # pixels of a picture that is sent: smaller ones are enlarged, pixel by pixel
REPLY_TOKENS = {LETTER: 16, LIST: 48, SENTENCE: 96}
NUMBER_TOKENS = 10  # for a token and its number
TOP = 10  # alternatives of a token whose probabilities are asked for
PICTURE_TOKENS = 85  # of a picture of low detail, as OpenAI counts them
BYTES_PER_TOKEN = 3.5  # of English text: an estimate on the safe side
CONTEXT_FIELDS = ("max_model_len", "context_length", "context_window", "n_ctx", "n_ctx_train")
WEB = re.compile(r"https?://[^/?#]", re.IGNORECASE)
ADAPTIONS = 4  # ways in which a request may have to be changed until an endpoint takes it
SAMPLE = "Answer with the letter A."


class RequestFailed(Exception):
    """A request got no answer, after all retries: another try may get one."""


class Endpoint:
    """A model behind an endpoint.

    Args:
        model: Its name there.
        base_url: The endpoint's address; by default that in OPENAI_BASE_URL, or else OpenAI's own. The key is that in
            OPENAI_API_KEY.
        timeout: Seconds after which a request is given up.
        retries: How often a request is sent again that fails or is refused for its rate, with growing pauses.
        reply_tokens: The most tokens of a reply; by default a few. Models that reason before they answer need more.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 6,
        reply_tokens: int | None = None,
    ) -> None:
        self.openai = imported(
            "openai", said="asking a model behind an endpoint needs the package openai: pip install 'thalweg[ask]'"
        )
        if not model.strip():
            raise ThalwegError("no model is named; its name behind the endpoint, or hf:FOLDER, was expected (--model)")
        self.name, self.reply_tokens = model, reply_tokens
        url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        key = os.environ.get("OPENAI_API_KEY")
        if not key and url is None:
            raise ThalwegError(
                "no key for the endpoint: set OPENAI_API_KEY, or name a server of your own with --base-url"
            )
        if url is not None and not WEB.match(url):
            raise ThalwegError(
                f"the endpoint {url!r}: an address that begins with http:// or https:// was expected (--base-url, or "
                "OPENAI_BASE_URL)"
            )
        self.url = url or "OpenAI's own"
        self._settings: dict[str, Any] = {"api_key": key or "none", "base_url": url, "max_retries": retries}
        self._settings["timeout"] = timeout
        self._client: Any = None
        self._limit, self._temperature, self._logprobs = "max_tokens", True, True

    @property
    def client(self) -> Any:
        """The client, which belongs to the event loop that first uses it."""
        if self._client is None:
            self._client = self.openai.AsyncOpenAI(**self._settings)
        return self._client

    async def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def check(self, longest: Sequence[Question]) -> None:
        """Check what can be checked for nothing: that the endpoint answers, takes the key, and has the model, with room
        for these questions, the longest of each form.

        Raises:
            ThalwegError: one of these is not so.
        """
        about = await self._about_model()
        room = _context(about)
        for question in longest:
            needed = prompt_tokens(question.build()) + self.most(question)
            if room is not None and needed > room:
                raise ThalwegError(
                    f"{self.name}: a prompt of the form {question.form} and its reply have about {needed} tokens, and "
                    f"the endpoint says that the model takes {room}; show fewer references (--references 3)"
                )

    async def _about_model(self) -> Mapping[str, Any]:
        """What the endpoint says of the model; nothing where it lists none."""
        errors = self.openai
        try:
            listed = await self.client.with_options(max_retries=1).models.list()
            models = {each.id: each.model_dump() for each in listed.data}
        except errors.APIConnectionError as wrong:
            raise ThalwegError(
                f"nothing answers at the endpoint {self.url} ({_said(wrong)}); start the server, "
                "or name another with --base-url"
            ) from wrong
        except (errors.AuthenticationError, errors.PermissionDeniedError) as wrong:
            raise ThalwegError(
                f"the endpoint {self.url} does not take the key ({_said(wrong)}); set OPENAI_API_KEY to one that is "
                "valid there"
            ) from wrong
        except (errors.NotFoundError, errors.APIResponseValidationError, AttributeError, TypeError, ValueError):
            return {}  # it lists no models, or in a way of its own
        except errors.APIStatusError as wrong:
            raise ThalwegError(f"the endpoint {self.url} refuses to list its models ({_said(wrong)})") from wrong
        if models and self.name not in models:
            raise unknown(f"model of the endpoint {self.url}", self.name, models)
        about: Mapping[str, Any] = models.get(self.name, {})
        return about

    async def rehearse(self, *, picture: bool, logprobs: bool) -> None:
        """Send one small request, to see in what form the endpoint takes requests.

        Raises:
            ThalwegError: it takes no pictures, or gives no probabilities, where these are needed; or no request at all.
        """
        content: Prompt = (SAMPLE, *((Picture(_specimen()),) if picture else ()))
        for _ in range(ADAPTIONS):
            try:
                made = await self._complete(content, 16)
                break
            except self.openai.BadRequestError as wrong:
                self._adapt(_said(wrong), wrong, picture=picture, logprobs=logprobs)
            except self.openai.APIStatusError as wrong:
                if picture:
                    raise self._no_pictures(wrong) from wrong
                raise ThalwegError(
                    f"{self.name}: the endpoint {self.url} refuses to answer ({_said(wrong)})"
                ) from wrong
            except (self.openai.OpenAIError, ValueError) as wrong:
                raise ThalwegError(f"{self.name}: the endpoint {self.url} does not answer ({_said(wrong)})") from wrong
        else:
            raise ThalwegError(f"{self.name}: the endpoint {self.url} takes no request in any form that is known here")
        has = _logprobs(made)
        if logprobs and not has:
            raise self._no_logprobs("its answer holds none")
        self._logprobs = bool(has)

    def _adapt(self, said: str, wrong: Exception, *, picture: bool, logprobs: bool) -> None:
        """Change what requests are like, after what an endpoint said of one that it refused."""
        lower = said.lower()
        if "max_completion_tokens" in lower and self._limit == "max_tokens":
            self._limit = "max_completion_tokens"
        elif "temperature" in lower and self._temperature:
            self._temperature = False
        elif "logprob" in lower and self._logprobs:
            if logprobs:
                raise self._no_logprobs(said) from wrong
            self._logprobs = False
        elif picture:
            raise self._no_pictures(wrong) from wrong
        else:
            raise ThalwegError(f"{self.name}: the endpoint {self.url} refuses the request ({said})") from wrong

    def _no_pictures(self, wrong: Exception) -> ThalwegError:
        return ThalwegError(
            f"{self.name}: these trials are of pictures, and the endpoint takes none for this model ({_said(wrong)}); "
            "name a vision-language model"
        )

    def _no_logprobs(self, said: str) -> ThalwegError:
        return ThalwegError(
            f"{self.name}: simulation needs log-probabilities, and the endpoint gives none for this model ({said}); "
            "leave out --form simulation, or take another model"
        )

    def most(self, question: Question) -> int:
        """The most tokens of a reply to a question."""
        usual = NUMBER_TOKENS * len(question.pieces) if question.reply == NUMBERS else REPLY_TOKENS[question.reply]
        return max(usual, self.reply_tokens or 0)

    async def reply(self, question: Question) -> Reply:
        """What the model says to a question.

        Raises:
            RequestFailed: it said nothing, after all retries.
            ThalwegError: no request can get an answer: the key or the model is refused, or the prompt is too long.
        """
        errors = self.openai
        try:
            made = await self._complete(question.build(), self.most(question))
            choice, usage = made.choices[0], made.usage
            text = choice.message.content or ""
        except errors.BadRequestError as wrong:
            if "context" in (said := _said(wrong)).lower():
                raise ThalwegError(
                    f"{self.name}: a prompt of the form {question.form} is too long ({said}); show fewer references "
                    "(--references 3)"
                ) from wrong
            return Reply(said, refused=True)
        except (errors.AuthenticationError, errors.PermissionDeniedError, errors.NotFoundError) as wrong:
            raise ThalwegError(f"{self.name}: the endpoint {self.url} refuses to answer ({_said(wrong)})") from wrong
        except (errors.OpenAIError, ValueError, AttributeError, TypeError, IndexError) as wrong:
            raise RequestFailed(_said(wrong)) from wrong
        refused = choice.finish_reason == "content_filter" or bool(getattr(choice.message, "refusal", None))
        sent, received = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        return Reply(text, _numbers(question, _logprobs(made)), sent, received, refused=refused)

    async def _complete(self, prompt: Prompt, most: int) -> Any:
        options: dict[str, Any] = {self._limit: most}
        options |= {"temperature": 0} if self._temperature else {}
        options |= {"logprobs": True, "top_logprobs": TOP} if self._logprobs else {}
        messages = [{"role": "system", "content": prompts.SYSTEM}, {"role": "user", "content": _content(prompt)}]
        return await self.client.chat.completions.create(model=self.name, messages=messages, **options)


def prompt_tokens(prompt: Prompt) -> int:
    """About how many tokens a prompt has."""
    texts = sum(len(part.encode()) for part in prompt if isinstance(part, str)) + len(prompts.SYSTEM)
    pictures = sum(isinstance(part, Picture) for part in prompt)
    return math.ceil(texts / BYTES_PER_TOKEN) + PICTURE_TOKENS * pictures


def _content(prompt: Prompt) -> Any:
    """A prompt as the protocol has it: a text, or texts and pictures."""
    if all(isinstance(part, str) for part in prompt):
        return "".join(str(part) for part in prompt)
    parts: list[dict[str, Any]] = []
    for part in prompt:
        if isinstance(part, Picture):
            url = f"data:image/png;base64,{base64.b64encode(enlarged(part.png)).decode()}"
            parts.append({"type": "image_url", "image_url": {"url": url, "detail": "low"}})
        elif parts and parts[-1]["type"] == "text":
            parts[-1]["text"] += part
        else:
            parts.append({"type": "text", "text": part})
    return parts


def enlarged(png: bytes) -> bytes:
    """A picture at least so large that models see its pixels."""
    with Image.open(io.BytesIO(png)) as picture:
        times = -(-LEAST_SIDE // min(picture.size))
        if times <= 1:
            return png
        out = io.BytesIO()
        size = (picture.width * times, picture.height * times)
        picture.resize(size, Image.Resampling.NEAREST).save(out, format="PNG")
        return out.getvalue()


def _specimen() -> bytes:
    out = io.BytesIO()
    Image.new("L", (16, 16), 128).save(out, format="PNG")
    return out.getvalue()


def _context(about: Mapping[str, Any]) -> int | None:
    """How many tokens a model takes, where the endpoint says so in one of the usual places."""
    meta = about.get("meta")
    for place in (about, meta if isinstance(meta, dict) else {}):
        for name in CONTEXT_FIELDS:
            if isinstance(place.get(name), int) and place[name] > 0:
                return int(place[name])
    return None


def _said(wrong: Exception) -> str:
    """What an endpoint says of a request that it refused, in one line."""
    body = getattr(wrong, "body", None)
    message = body.get("message") if isinstance(body, dict) else None
    status = getattr(wrong, "status_code", None)
    if message and status:
        return f"{status}: {' '.join(str(message).split())[:200]}"
    return reason(wrong.__cause__ or wrong)


def _logprobs(made: Any) -> list[Any]:
    """The tokens of a reply with their alternatives; none where the endpoint gives none."""
    try:
        return list(made.choices[0].logprobs.content or [])
    except (AttributeError, IndexError, TypeError):
        return []


def _alternatives(token: Any) -> dict[str, float]:
    """The probabilities of what might have stood in a token's place, by their text without spaces."""
    found: dict[str, float] = {}
    for each in getattr(token, "top_logprobs", None) or []:
        found[each.token.strip()] = found.get(each.token.strip(), 0.0) + math.exp(each.logprob)
    return found


def _numbers(question: Question, tokens: Sequence[Any]) -> tuple[float, ...]:
    """The probabilities of the letters, at the token that is one of them; or the number that is expected for each token
    of the query.
    """
    if question.reply == LETTER:
        for token in tokens:
            if token.token.strip() in question.options:
                shares = [_alternatives(token).get(option, 0.0) for option in question.options]
                return tuple(share / sum(shares) for share in shares) if sum(shares) > 0 else ()
    if question.reply == NUMBERS:
        digits = [str(digit) for digit in range(10)]
        before = ""
        numbers: list[float] = []
        for token in tokens:
            if token.token.strip() in digits and (before + token.token).rstrip()[:-1].endswith("\t"):
                shares = [_alternatives(token).get(digit, 0.0) for digit in digits]
                numbers.append(expected(list(map(float, range(10))), shares) if sum(shares) > 0 else float(token.token))
            before += token.token
        return tuple(numbers)
    return ()
