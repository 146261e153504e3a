"""The page on services holds every fact that the package has of them, as it is."""

from finetune_pricer.providers import PROVIDERS
from finetune_pricer.providers.pricing import TOKEN_PRICINGS
from known_services_page import PAGE, render

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_is_in_step_with_the_data() -> None:
    assert render() == TEXT, "run: python tests/known_services_page.py"


def test_every_service_ending_doubt_and_price_has_its_place() -> None:
    services = [one for name, one in PROVIDERS.items() if name != "local"]
    for provider in services:
        assert f"\n## {provider.name}\n" in TEXT
        assert all(doubt.about in TEXT for doubt in provider.doubts)
        assert all(f"`{name}`" in TEXT for ends in provider.retirements for name in ends.models)
    rows = [row for row in TOKEN_PRICINGS if row.provider != "local"]
    assert all(f"\n| {row.provider} | " in TEXT and f"{row.as_of}" in TEXT for row in rows)
