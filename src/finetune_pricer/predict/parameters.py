"""Which parameters a model takes: from its service's profile and its name, corrected by what is refused.

A refusal is understood in the service's own words, and answered by the nearest that it takes:

1. What `param` names is to blame, else the parameter of ours that the message names; words that the message
   quotes from the item's own text do not count.
2. A number in the words is a bound: of `max allowed: 5` alternatives five are asked for, and where a
   temperature must be above 0 it is a thousandth.
3. Where nothing was answered yet and the words name none of ours, the question is tried without one after
   the other. Where that does not help, they were not to blame and are sent again.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from .._lazy import compile_late
from ..errors import DataError, RequestRejected

if TYPE_CHECKING:
    from .._service.requests import Answer
    from ..errors import ServiceError
    from ..providers.provider import Provider
    from .dialogue import Question

_log = logging.getLogger("finetune_pricer")

_THINKING_TOKENS = 4096  # that a reasoning model may spend before its reply
_REASONING = compile_late(r"(?:ft:)?(?:\w+/)?(?:o\d|gpt-[5-9](?!.*-chat))")
_REFUSED = {400, 403, 404, 422}
_UNNAMED = {400, 422}  # by which a service may refuse a parameter without naming it
LIMITS = ("max_tokens", "max_completion_tokens")
"""The names that a reply's limit has."""
# Alternatives that are asked for, of a service that gives more: a hundred hold 0.92 to 1 of a local model's
# probability, and from a thousand the median's error is the same in five times the bytes (13 and 70 kB an
# answer, where there are so many). What a hundred leave unseen, `unseen.py` completes.
_ENOUGH = 100
_FEWER = 5  # alternatives, where a service gives fewer than 20 and does not say how many
_COLD = (1e-3, 1e-2)  # temperatures in place of 0, where that is refused

_OURS = {"model", "messages", "stream", "n"}
# By these a user switches thinking, on or off: then the profile's switch is not sent.
_SWITCHES = frozenset(
    """chat_template_kwargs enable_thinking reasoning reasoning_effort think thinking thinking_budget
    thinking_config include_reasoning""".split()
)
_MOST_CUT = 3  # answers that are bought of a model that is always cut in its thinking

Blamed = Literal["switch", "logprobs", "n", "limit", "temperature"]
_WORDS: dict[Blamed, re.Pattern[str]] = {
    "logprobs": compile_late(r"log[ _-]?prob\w*", re.IGNORECASE),
    "n": compile_late(
        r"['\"`]n['\"`]|\bn\b(?= *(?:[=<>:]|value|must|parameter|is\b|greater|larger|bigger))|\bn value\b"
        r"|(?:value|number) (?:of|for) n\b|candidate_?count"
        r"|(?:multiple|only one|number of) (?:choice|completion|candidate|generation|sample)s?",
        re.IGNORECASE,
    ),
    "limit": compile_late(r"max_?(?:completion_?|new_?|output_?)?tokens", re.IGNORECASE),
    "temperature": compile_late(r"temperature", re.IGNORECASE),
}
_ABOUT_SIZE = compile_late(r"context|too (?:large|long|many)|exceed|maximum|minimum|at (?:least|most)|than")
_ABOUT_CONTENT = compile_late(
    r"content|polic(?:y|ies)|flagged|safety|moderat|filter|too (?:large|long)|context|model\b.*\bnot",
    re.IGNORECASE,
)
_MOST = compile_late(
    r"(?:max(?:imum)?(?: (?:allowed|value|of|is|number|limit))*|at most|up to|no more than|not exceed|<=|≤"
    r"|(?:less|smaller|lower) than or equal to|not be (?:greater|larger|more|higher) than"
    r"|(?:between|from) \d+(?:\.\d+)? (?:and|to)|[\[(] ?\d+(?:\.\d+)? ?,|\b\d+ ?(?:-|to|\.\.))"
    r" ?[:=]? ?(\d+(?:\.\d+)?)",
    re.IGNORECASE,
)
_BELOW = compile_late(r"(?:(?:less|smaller|lower) than|below|<) ?(\d+(?:\.\d+)?)", re.IGNORECASE)
_LEAST = compile_late(
    r"(?:min(?:imum)?(?: (?:allowed|value|of|is))*|at least|>=|≥|(?:greater|larger|higher) than or equal to"
    r"|not be (?:less|smaller|lower) than|between|from|\[) ?[:=]? ?(\d+(?:\.\d+)?)",
    re.IGNORECASE,
)
_ABOVE_ZERO = compile_late(
    r"positive|(?:greater|larger|higher|more) than 0(?:\.0+)?(?![.\d])|above 0(?:\.0+)?(?![.\d])"
    r"|> ?0(?:\.0+)?(?![.\d])|\( ?0(?:\.0+)? ?,|non-?zero|not be (?:0|zero)",
    re.IGNORECASE,
)
_OPEN_AT_ONE = compile_late(r", ?1(?:\.0+)? ?\)")
_QUOTED = 8  # letters around a word that stand in the item's text too: the word is quoted from there


class ModelParameters:
    """Which parameters a model takes, as far as that is known. For several threads at once."""

    def __init__(
        self, model: str, provider: Provider, answer_parameters: Mapping[str, Any] | None = None
    ) -> None:
        self.theirs: dict[str, Any] = read_answer_parameters(answer_parameters)
        """What the user wants in each request."""
        self._model, self._thinking = model, provider.thinking_of(model)
        known = self._thinking
        self._switch: dict[str, Any] = dict(known.off) if known and known.from_the_start else {}
        self._may_switch = not _SWITCHES & self.theirs.keys()
        if not self._may_switch:
            self._switch = {}
        effort = (self._switch | self.theirs).get("reasoning_effort")
        self.reasons = _REASONING.match(model) is not None and effort != "none"
        self._room = _THINKING_TOKENS if self.reasons else known.room if known and known.always else 0
        self.limit = "max_completion_tokens" if _REASONING.match(model) else provider.reply_limit
        self.top_logprobs: int = 0 if self.reasons else min(provider.most_logprobs, _ENOUGH)
        self.takes_n: bool = True
        """Whether a request may ask for several samples."""
        self.has_replied = False
        """Whether a real answer has come since the predictor was made."""
        self._cut = 0  # answers that were cut in their thinking with all that is known to help
        self._has_said = self._has_said_digits = False
        self._coldest, self._warmest = 0.0, 1.0  # temperatures for one reply, and for samples
        self._least_tokens = 0
        self._has_answered = self._limit_is_sure = False
        self._before_trial: tuple[dict[str, Any], int, bool] | None = None  # before something was left out
        self._can_try = True
        self._answers_as: dict[str, str] = {}

    def choose(self, question: Question, reply_tokens: int) -> dict[str, Any]:
        """Return what goes into the request beside model and messages."""
        chosen: dict[str, Any] = {self.limit: max(self._least_tokens, reply_tokens + self._room)}
        if not self.reasons:
            chosen["temperature"] = self._warmest if question.kind == "samples" else self._coldest
        if question.kind == "logprobs" and self.top_logprobs:
            chosen |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        if question.kind == "samples" and question.replies > 1 and self.takes_n:
            chosen["n"] = question.replies
        if any(name in self.theirs for name in LIMITS):
            del chosen[self.limit]
        chosen |= self._switch | self.theirs
        return {name: value for name, value in chosen.items() if value is not None}

    @property
    def takes_long(self) -> bool:
        """Whether the model thinks before it answers, so that an answer may take minutes."""
        return self._room > 0 or any(name in self.theirs for name in LIMITS)

    def learn_to_think(self, *, was_cut: bool) -> None:
        """Conclude from an answer that the model thinks first: ask it not to, and then give it room.

        Args:
            was_cut: Whether the answer ended in its thinking, asked as all are asked now.
        """
        known, before = self._thinking, (self._switch, self._room)
        if was_cut and self._may_switch and known and known.off and not self._switch:
            self._switch, self._may_switch = dict(known.off), False
        elif was_cut and not self._room and not any(name in self.theirs for name in LIMITS):
            self._room = known.room if known else _THINKING_TOKENS
        elif was_cut:
            self._cut += 1
        if was_cut and not self._has_said and before != (self._switch, self._room):
            self._has_said = True
            _log.warning(
                "the model %r thinks before it answers, or says more than a price. It is asked not to (%s); "
                "where it goes on, it gets room for that, which is billed. If you know its own switch, name "
                "it: %s",
                self._model,
                self._switch or "no switch is known",
                self.hint,
            )

    @property
    def hint(self) -> str:
        """What the user can do about thinking."""
        off = (self._thinking.off if self._thinking else {}) or {"reasoning_effort": "none"}
        return f"Predictor(answer_parameters={off})"

    @property
    def is_hopeless(self) -> bool:
        """Whether the model never came to an answer, though all was tried that is known to help."""
        return self._cut >= _MOST_CUT and not self.has_replied

    def make_thinking_error(self) -> RequestRejected:
        """Return the error for questions to a model that does not come to an answer."""
        return RequestRejected(
            f"not asked: the model {self._model!r} thinks before it answers, and its answers were cut in the "
            f"middle of that; switch it off, as by {self.hint}, or give it more room, as by "
            "answer_parameters={'max_tokens': 8000}"
        )

    def confirm(self) -> None:
        """Conclude from an answer that what was sent is taken."""
        self._has_answered = True
        self._before_trial = None

    def note_model(self, answer: Answer, *, kept: bool) -> None:
        """Warn once where kept answers and new ones come from different models of the same name."""
        name, other = answer.get("model"), "new" if kept else "kept"
        if not isinstance(name, str):
            return
        self._answers_as["kept" if kept else "new"] = name
        if self._answers_as.get(other, name) != name and "said" not in self._answers_as:
            self._answers_as["said"] = name
            _log.warning(
                "answers that were kept came from a model that calls itself %r, new ones come from %r: where "
                "the model has changed under its name, use another store",
                self._answers_as["kept"],
                self._answers_as["new"],
            )

    def warn_of_single_digits(self) -> None:
        """Say, once, that a model's token probabilities tell nothing of amounts, and what to do."""
        if self._has_said_digits:
            return
        self._has_said_digits = True
        _log.warning(
            "the model %r writes numbers digit by digit, so its token probabilities do not tell amounts, and "
            "each price is its likeliest reply, which is poor: the likeliest first digit sums up over 1, 10 "
            "to 19 and 100 to 199. The median of several replies is better: Predictor(decoding='median', "
            "samples=20); decoding='greedy' keeps what you have now, and this quiet",
            self._model,
        )

    def learn(self, error: ServiceError, sent: Mapping[str, Any], prompt: str) -> bool:
        """Conclude from a refusal what to leave out or to ask otherwise from now on.

        Args:
            error: The refusal.
            sent: The parameters that were refused.
            prompt: The question's own words, which the refusal may quote.

        Returns:
            False where it is sure that asking again is of no use.
        """
        if error.status not in _REFUSED:
            return False
        match find_blamed(error, sent, prompt, self._switch):
            case "logprobs":
                self.top_logprobs = self._fewer_alternatives(error, sent)
            case "switch":
                self._drop_switch()
            case "n":
                self.takes_n = False
            case "temperature":
                self._change_temperature(error.message, float(sent["temperature"]))
            case "limit":
                self._change_limit(error.message, sent)
            case None:
                return self._try_without(error, sent)
        return True

    def _drop_switch(self) -> None:
        self._switch, self._may_switch = {}, False
        if _REASONING.match(self._model):
            self.reasons, self.top_logprobs, self._room = True, 0, _THINKING_TOKENS

    def _fewer_alternatives(self, error: ServiceError, sent: Mapping[str, Any]) -> int:
        now = int(sent.get("top_logprobs") or 0)
        stated = _read_most(error.message, now)
        if stated is not None:
            return int(stated)
        # Some services give no more than five; those that give none say so again.
        words = f"{error.param} {error.message}".lower()
        is_about_number = "top_logprobs" in words and not re.search(r"(?<![\w-])logprobs", words)
        return _FEWER if now > _FEWER and is_about_number else 0

    def _change_temperature(self, message: str, sent: float) -> None:
        least = max((float(found) for found in _LEAST.findall(message)), default=0.0)
        most = _read_most(message, sent)
        if most is None and _OPEN_AT_ONE.search(message):
            most = 0.99
        if sent < least <= 1:
            self._coldest = least
        elif sent >= 1 and most is not None and most > 0:
            self._warmest = most
        elif sent < _COLD[-1] and _ABOVE_ZERO.search(message):
            self._coldest = next(colder for colder in _COLD if colder > sent)
        else:  # any temperature is refused, as reasoning models do
            self.reasons, self.top_logprobs = True, 0
            self._room = self._room or _THINKING_TOKENS

    def _change_limit(self, message: str, sent: Mapping[str, Any]) -> None:
        now = max(int(sent.get(name) or 0) for name in LIMITS)
        least = max((int(float(found)) for found in _LEAST.findall(message)), default=0)
        if now < least <= _THINKING_TOKENS and "context" not in message:
            self._least_tokens = least
        # A prompt that leaves no room is refused by the same name, and says nothing about the others.
        elif not (self._limit_is_sure or self._has_answered or _ABOUT_SIZE.search(message)):
            self._limit_is_sure = True
            self.limit = "max_tokens" if self.limit == "max_completion_tokens" else "max_completion_tokens"

    def _try_without(self, error: ServiceError, sent: Mapping[str, Any]) -> bool:
        """Try without a parameter that a refusal does not name; return whether to ask again."""
        if self._has_answered or error.status not in _UNNAMED or error.param:
            return True
        if _ABOUT_CONTENT.search(f"{error.code} {error.message}"):
            return True
        if self._before_trial is None and self._can_try:
            self._before_trial = (self._switch, self.top_logprobs, self.takes_n)
        if self._before_trial is None:
            return True
        if self._switch and self._switch.items() <= sent.items():
            self._switch = {}
        elif "logprobs" in sent:
            self.top_logprobs = 0
        elif "n" in sent:
            self.takes_n = False
        else:  # it was not for these
            self._switch, self.top_logprobs, self.takes_n = self._before_trial
            self._before_trial, self._can_try = None, False
            return False
        return True


def read_answer_parameters(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a user's own parameters as they are sent; None leaves out a parameter of ours.

    Raises:
        DataError: One is no JSON, is ours to choose, or is a limit that is no number of tokens.
    """
    import orjson

    if given is not None and not isinstance(given, Mapping):
        raise DataError(f"answer_parameters must be a mapping of names to values, not {given!r}")
    wanted = dict(given or {})
    wanted |= wanted.pop("extra_body", None) or {}  # as openai's own examples have it
    if taken := _OURS & wanted.keys():
        raise DataError(
            f"answer_parameters cannot hold {sorted(taken)}; for several replies there is samples="
        )
    for name in LIMITS:
        if name in wanted and (type(wanted[name]) is not int or wanted[name] < 1):
            raise DataError(f"answer_parameters: {name} must be a whole number above 0, not {wanted[name]!r}")
    try:
        json.dumps(wanted, allow_nan=False, default=str)  # orjson would send null for what is no number
        copied: dict[str, Any] = orjson.loads(orjson.dumps(wanted))
    except (TypeError, ValueError) as error:
        raise DataError(f"answer_parameters must be JSON: {error}") from None
    return copied


def find_blamed(
    error: ServiceError, sent: Mapping[str, Any], prompt: str, switch: Mapping[str, Any]
) -> Blamed | None:
    """Return which of our parameters a refusal is about; None where it names none that was sent."""
    inner = {name for value in switch.values() if isinstance(value, Mapping) for name in value}
    names = "|".join(map(re.escape, sorted(switch.keys() | inner)))
    words = {"switch": re.compile(names or r"(?!)", re.IGNORECASE), **_WORDS}
    kinds: dict[Blamed, bool] = {
        "switch": bool(switch) and switch.keys() <= sent.keys(),
        "logprobs": "logprobs" in sent,
        "n": "n" in sent,
        "limit": any(name in sent for name in LIMITS),
        "temperature": "temperature" in sent,
    }
    param = re.split(r"[.\[\]'\"\s]+", (error.param or "").strip(" .[]'\""))[-1]
    for what, is_sent in kinds.items():
        if is_sent and (param == what or words[what].fullmatch(param)):
            return what
    for what, is_sent in kinds.items():
        places = words[what].finditer(error.message)
        if is_sent and any(not _is_quoted(place, prompt) for place in places):
            return what
    return None


def _is_quoted(place: re.Match[str], prompt: str) -> bool:
    """Whether a word of a message stands in a stretch that was copied from the prompt."""
    message, prompt = place.string.lower(), prompt.lower()
    start, end = place.span()
    if message[start:end] not in prompt:
        return False
    while start > 0 and message[start - 1 : end] in prompt:
        start -= 1
    while end < len(message) and message[start : end + 1] in prompt:
        end += 1
    return (end - start) - len(place[0]) >= _QUOTED


def _read_most(message: str, now: float) -> float | None:
    """Return the largest number that a message allows and that is below the one that was sent."""
    found = [float(number) for number in _MOST.findall(message)]
    found += [float(number) - 1 for number in _BELOW.findall(message)]
    return max((number for number in found if 0 <= number < now), default=None)
