"""What a service says went wrong, in whatever form it says so; and what its words mean.

Services word their errors in as many ways as there are services: an object, a text, a list, a form of a web
framework, JSON inside a text. All are read here, for an answer's status, for an error inside an answer of
HTTP 200, and for a line of a batch.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from .._lazy import compile_late
from .answer_json import parse_json
from .headers import parse_seconds

_LONGEST = 2_000  # characters of a service's words that are kept
_MOST_NESTED = 4


class Problem(NamedTuple):
    """An error in a service's words."""

    message: str = ""
    code: str | None = None
    param: str | None = None
    kind: str | None = None
    """What OpenAI calls the `type`."""
    status: int | None = None
    """The HTTP status that the words themselves name."""
    wait: float | None = None
    """Seconds after which the words ask to try again."""

    @property
    def is_about_money(self) -> bool:
        """Whether the account lacks credit or quota, so that asking again does not help."""
        if {_normalize(self.code), _normalize(self.kind)} & _MONEY_CODES or _MONEY.search(self.message):
            return True
        if self.status not in {402, 429}:
            return False
        if self.status == 402 or (_QUOTA.search(self.message) and _NO_QUOTA.search(self.message)):
            return True
        return self.wait is None and bool(_QUOTA.search(self.message) and not _RATE.search(self.message))

    @property
    def is_about_size(self) -> bool:
        """Whether this one request is too large, now and later."""
        asked = _ASKED.search(self.message)
        if asked is not None:
            limit, wanted = (float(number.replace(",", "")) for number in asked.groups())
            return wanted > limit
        return _normalize(self.code) in _SIZE_CODES or bool(_TOO_LARGE.search(self.message))

    @property
    def is_about_path(self) -> bool:
        """Whether the service has nothing at the address that was asked."""
        return bool(_NO_PATH.search(self.message))


_MONEY_CODES = frozenset(
    """insufficient_quota exceeded_current_quota_error exceeded_current_quota insufficient_balance
    insufficient_credits insufficient_credit insufficient_funds insufficient_user_quota
    insufficient_account_balance billing_hard_limit_reached billing_not_active billing_error payment_required
    credit_balance_too_low out_of_credits credits_exhausted arrearage quota_exhausted budget_exceeded
    spend_limit_exceeded""".split()
)
# Whole phrases only: a refusal may quote a product that can be recharged or topped up.
_MONEY = compile_late(
    r"""insufficient[ _](?:account[ _])?(?:balance|credits?|funds?|quota|user[ _]quota)\b
    |balance[ ](?:is[ ])?(?:insufficient|too[ ]low|not[ ]enough|exhausted)
    |(?:not[ ]enough|run[ ]out[ ]of|out[ ]of|(?:doesn't|does[ ]not)[ ]have[ ]any|requires[ ]more)[ ]credits?
    |credits?[ ](?:are|is|have[ ]been|has[ ]been)[ ](?:depleted|exhausted|used[ ]up|insufficient)
    |(?:exceeded|exhausted|used[ ]up)[ ]your[ ](?:\w+[ ]){0,3}credits
    |billing[ ](?:hard[ ])?limit|account[ ]is[ ]not[ ]active
    |(?:monthly|weekly|daily|your)[ ]spend(?:ing)?[ ](?:limit|cap)|budget[ ]has[ ]been[ ]exceeded
    |account[ ](?:is[ ])?(?:overdue|in[ ]arrears)|account[ ]is[ ]in[ ]good[ ]standing|arrearage
    |suspended[ ]due[ ]to[ ]insufficient|payment[ ]required
    |余额不足|额度不足|欠费|请充值""",
    re.IGNORECASE | re.VERBOSE,
)
_QUOTA = compile_late(
    r"""exceeded[ ](?:your|the)[ ](?:\w+[ ]){0,3}quota|quota[ ](?:\w+[ ]){0,2}(?:exceeded|exhausted)
    |(?:no|out[ ]of)[ ]quota|check[ ]your[ ]plan[ ]and[ ]billing
    |(?:daily|weekly|monthly)[ ](?:\w+[ ]){0,3}(?:limit|quota|allowance)|per[-_ ](?:day|week|month)""",
    re.IGNORECASE | re.VERBOSE,
)
_NO_QUOTA = compile_late(r"\blimit: 0\b")  # as Google has it where a model is not in the free tier
_RATE = compile_late(r"per[-_ ]?(?:minute|min|second|sec)\b|per_?minute|\b[RT]PM\b|concurren", re.IGNORECASE)
_ASKED = compile_late(r"limit:? ?([\d,]*\d)\b(?:(?!used).){0,20}?requested:? ?([\d,]*\d)\b", re.IGNORECASE)
_SIZE_CODES = frozenset(
    """context_length_exceeded exceed_context_size_error string_above_max_length request_too_large
    payload_too_large""".split()
)
_TOO_LARGE = compile_late(
    r"""(?:request|prompt|input|message)[ ](?:is[ ])?too[ ](?:large|long)
    |must[ ]be[ ]reduced|reduce[ ](?:the[ ]length|your[ ](?:message|prompt))
    |context[_ ]length[_ ]exceeded|maximum[ ]context[ ]length
    |exceeds?[ ](?:\S+[ ]){0,4}context""",
    re.IGNORECASE | re.VERBOSE,
)
_NO_PATH = compile_late(
    r"unexpected endpoint|(?:endpoint|route|path|url)\b.{0,40}\bnot found|no such (?:endpoint|route|path)",
    re.IGNORECASE,
)
_WAIT = compile_late(
    r"(?:try|retry)(?: again)? (?:in|after) (\d[\d.]*) ?"
    r"(milliseconds|ms|seconds?|secs?|minutes?|hours?|[smh])"
    r"((?:\d[\d.]*(?:ms|s|m))*)",
    re.IGNORECASE,
)


def read_problem(body: Any, status: int | None = None) -> Problem:
    """Return what a body says is wrong; without a message where it says nothing that can be read.

    Args:
        body: JSON, or a text.
        status: The answer's HTTP status; None where that was a success, and the words may name another.
    """
    problem = _read(body, 0)
    if status is not None:
        problem = problem._replace(status=status)
    return problem._replace(message=problem.message[:_LONGEST])


def find_hidden_problem(answer: dict[str, Any]) -> Problem | None:
    """Return the error that stands in the place of what was asked for, in an answer of HTTP 200.

    An error beside a thing, as a failed job has it, is the thing's own.
    """
    is_thing = any(answer.get(name) for name in ("id", "data", "choices", "name"))
    if answer.get("object") == "error" or (answer.get("error") and not is_thing):
        return read_problem(answer)
    return None


def find_missing_reply(answer: dict[str, Any]) -> Problem | None:
    """Return why a chat completion holds no reply; None where it holds one."""
    listed = answer.get("choices")
    choices = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    failed = [each for each in choices if each.get("error") or each.get("finish_reason") == "error"]
    if choices and len(failed) < len(choices):
        return None
    said = next((each for each in (answer, *failed) if each.get("error")), None)
    if said is not None:
        return read_problem({"error": said["error"]})
    found = read_problem({name: answer[name] for name in answer.keys() & _WORDS})
    return found if found.message else Problem("the reply is empty")


_WORDS = {"message", "msg", "detail", "error_msg", "error_message", "code", "status", "type"}


def _read(body: Any, depth: int) -> Problem:
    if isinstance(body, list):
        return _read_list(body, depth)
    if isinstance(body, str):
        return _read_text(body, depth)
    if not isinstance(body, dict) or depth > _MOST_NESTED:
        return Problem()
    inner = body.get("error") or body.get("errors")
    if isinstance(inner, dict | list | str):
        outer = _read({name: body[name] for name in body.keys() - {"error", "errors"}}, depth + 1)
        found = _read(inner, depth + 1)
        return Problem(
            found.message or outer.message,
            found.code or outer.code,
            found.param or outer.param,
            found.kind or outer.kind,
            found.status or outer.status,
            found.wait if outer.wait is None else outer.wait,
        )
    return _read_words(body, depth)


def _read_list(body: list[Any], depth: int) -> Problem:
    if any(isinstance(each, dict) and "loc" in each for each in body):  # as FastAPI words what it refuses
        return _read_refused_fields([each for each in body if isinstance(each, dict)])
    return _read(next((each for each in body if each), None), depth + 1)


def _read_refused_fields(rows: list[dict[str, Any]]) -> Problem:
    places = [row.get("loc") for row in rows]
    names = [str(place[-1]) if isinstance(place, list) and place else "" for place in places]
    said = [f"{name}: {row.get('msg')}" for name, row in zip(names, rows, strict=True)]
    return Problem("; ".join(said), param=names[0] or None)


def _read_text(text: str, depth: int) -> Problem:
    stripped = text.strip()
    if stripped[:1] in {"{", "["} and depth <= _MOST_NESTED:  # JSON inside a text
        try:
            found = _read(parse_json(stripped.encode()), depth + 1)
        except ValueError:
            pass
        else:
            if found.message:
                return found
    return Problem(stripped, wait=_find_wait(stripped))


def _read_words(words: dict[str, Any], depth: int) -> Problem:
    names = ("message", "msg", "detail", "error_msg", "error_message", "reason", "title")
    raw = next((words[name] for name in names if words.get(name)), None)
    said = _read(raw, depth + 1) if raw is not None else Problem()
    message = said.message
    metadata = words.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("raw"), str):  # of the service behind a gateway
        message = f"{message}: {_read_text(metadata['raw'], depth + 1).message[:500]}"
    code, param, kind = (words.get(name) for name in ("code", "param", "type"))
    if kind is None and isinstance(words.get("status"), str):
        kind = words["status"]
    status = next(
        (found for name in ("code", "status", "status_code") if (found := _status(words.get(name)))), None
    )
    return Problem(
        message,
        str(code) if isinstance(code, str | int) else said.code,
        param if isinstance(param, str) else said.param,
        kind if isinstance(kind, str) else said.kind,
        status or said.status,
        said.wait if said.wait is not None else _find_delay(words.get("details")),
    )


def _status(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[45]\d\d", value):
        value = int(value)
    return value if isinstance(value, int) and 400 <= value < 600 else None


def _find_wait(text: str) -> float | None:
    match = _WAIT.search(text)
    if match is None:
        return None
    number, unit, rest = match.groups()
    short = "ms" if unit.lower().startswith(("ms", "milli")) else unit[0].lower()
    return parse_seconds(f"{number.rstrip('.')}{short}{rest}")


def _find_delay(details: Any) -> float | None:
    for each in details if isinstance(details, list) else []:
        if isinstance(each, dict) and isinstance(each.get("retryDelay"), str):
            return parse_seconds(each["retryDelay"])
    return None


def _normalize(word: str | None) -> str:
    return re.sub(r"[\s.-]+", "_", (word or "").strip()).lower()
