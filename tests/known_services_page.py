"""Writes what is known of services into its page: `python tests/known_services_page.py`, after a change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from finetune_pricer.providers import PROVIDERS
from finetune_pricer.providers.pricing import TOKEN_PRICINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import date

    from finetune_pricer.providers import Provider, Retirement, Setting, TokenPricing

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "known-services.md"
HEAD = """\
# Known services

What the package holds of each service, with its source and the day on which it was read.
`python tests/known_services_page.py` writes this page from the data, and a test keeps the two in step.
Nothing here was tried with a paid account; look at the source before you pay.
Any of it can be overridden: [`PROVIDERS`][finetune_pricer.providers.PROVIDERS] and
[`TokenPricing`][finetune_pricer.TokenPricing] say how.
"""
_SERVED = {
    "at_once": "by its name, as soon as it is trained",
    "custom_models": "after `job.deploy()`",
    "loras": "after `job.deploy()`",
    "by_hand": "after steps by hand, which `job.deploy()` shows",
}


def render() -> str:
    """Return the page as the data is now."""
    services = [provider for name, provider in PROVIDERS.items() if name != "local"]
    parts = [HEAD.rstrip("\n"), *(part for one in services for part in _describe(one))]
    return "\n\n".join(part for part in [*parts, *_describe_prices()] if part) + "\n"


def _describe(provider: Provider) -> Iterator[str]:
    yield f"## {provider.name}"
    facts = [
        ("key", f"`{provider.key_variable}`"),
        ("address", f"`{provider.base_url}`" if provider.base_url else f"`{provider.base_url_variable}`"),
        *((ours.replace("_", " "), _bounds(setting)) for ours, setting in provider.settings.items()),
        ("examples, at least", str(provider.min_examples)),
        ("a tuned model answers", _SERVED[provider.serving.how]),
        ("what that costs", provider.serving.cost or "nothing but its tokens, as far as is known"),
        ("new jobs until", str(provider.no_new_jobs_after or "no end is known")),
        ("read", _dated(provider.as_of, provider.confirmed_on, provider.source)),
    ]
    yield _table(("what", "how it is"), facts)
    if provider.retirements:
        yield _table(("models", "trained until", "answer until", "read"), map(_row_of, provider.retirements))
        yield _notes(ends.source for ends in provider.retirements)
    if provider.doubts:
        yield "In doubt:"
        yield "\n".join(f"- {doubt.about} ({_link(doubt.source)})" for doubt in provider.doubts)


def _bounds(setting: Setting) -> str:
    if setting.choices:
        limits = f"one of {', '.join(map(str, setting.choices))}"
    elif setting.low is None or setting.high is None:
        limits = "any" if setting.low is setting.high else f"from {setting.low or 0:g}"
    else:
        limits = f"{setting.low:g} to {setting.high:g}"
    scale = f", times {setting.scale:g}" if setting.scale else ""
    return f"`{setting.name}`: {limits}{scale}"


def _row_of(ends: Retirement) -> tuple[str, ...]:
    earliest = " at the earliest" if ends.is_earliest else ""
    return (
        ", ".join(f"`{name}`" for name in ends.models),
        f"{ends.training_ends}{earliest}" if ends.training_ends else "is not tuned",
        f"{ends.serving_ends}{earliest}" if ends.serving_ends else "no end is known",
        _dated(ends.as_of, ends.confirmed_on, ends.source),
    )


def _describe_prices() -> Iterator[str]:
    yield "## What they charge"
    yield (
        "Dollars for a million tokens: trained, asked and answered, the last two also by batch; and for each "
        "hour that a tuned model is deployed. A dash is unknown, and never means free."
    )
    rows = [_price_row(row) for row in TOKEN_PRICINGS if row.provider != "local"]
    yield _table(
        (
            "service",
            "model",
            "trained",
            "asked",
            "answered",
            "asked, batch",
            "answered, batch",
            "hour",
            "read",
        ),
        rows,
    )
    yield _notes(row.source for row in TOKEN_PRICINGS if row.provider != "local")


def _price_row(row: TokenPricing) -> tuple[str, ...]:
    amounts = (row.train, row.input, row.output, row.batch_input, row.batch_output, row.hosting_per_hour)
    return (
        row.provider or "any",
        f"`{row.model}`" if row.model else _sizes(row),
        *("-" if amount is None else f"{amount:g}" for amount in amounts),
        _dated(row.as_of, row.confirmed_on, row.source),
    )


def _sizes(row: TokenPricing) -> str:
    if row.from_billions is None and row.below_billions is None:
        return "others"
    if row.below_billions is None:
        return f"{row.from_billions:g} billion parameters and more"
    low = f"{row.from_billions:g} to " if row.from_billions else "below "
    return f"{low}{row.below_billions:g} billion parameters"


def _dated(as_of: date | None, confirmed_on: date | None, source: str) -> str:
    return f"{max(filter(None, (as_of, confirmed_on)))}, {_link(source)}"


def _link(source: str) -> str:
    address = source.split(maxsplit=1)[0].rstrip(";,")
    return f"[{address.removeprefix('https://').partition('/')[0]}]({address})"


def _notes(sources: Iterable[str]) -> str:
    """What is said of how a source was read, once for each."""
    told = dict.fromkeys(source for source in sources if " " in source)
    return "\n".join(f"- {_link(source)}: {source.split(maxsplit=1)[1].strip('()')}" for source in told)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
