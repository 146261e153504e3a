"""From token probabilities or several replies to one price."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import openai
import pytest
import respx

from finetune_pricer import ChatFormatter, Predictor
from finetune_pricer.errors import DataError, RequestRejected
from finetune_pricer.predict import Distribution
from finetune_pricer.predict.decoding import distribution_from_logprobs, distribution_from_samples
from finetune_pricer.prices import PriceForm, parse_price
from finetune_pricer.providers import PROVIDERS, Provider

Alternatives = Mapping[str, float]


def token(text: str, alternatives: Alternatives = {}) -> dict[str, Any]:  # noqa: B006
    told = [{"token": word, "logprob": math.log(share)} for word, share in alternatives.items()]
    return {"token": text, "logprob": math.log(alternatives.get(text, 1.0)), "top_logprobs": told}


def choice(*tokens: str | tuple[str, Alternatives], finish: str = "stop") -> dict[str, Any]:
    content = [token(each) if isinstance(each, str) else token(*each) for each in tokens]
    text = "".join(each["token"] for each in content)
    return {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "logprobs": {"content": content},
        "finish_reason": finish,
    }


def seen(*tokens: str | tuple[str, Alternatives], like: str = "$19.99", **known: Any) -> Distribution | None:
    made = choice(*tokens)
    return distribution_from_logprobs(
        made, parse_price(made["message"]["content"]), PriceForm.like(like), **known
    )


SMALL = {"20": 0.4, "12": 0.3, "45": 0.2, "9": 0.1}


def test_the_dollar_token_tells_the_distribution() -> None:
    found = seen("$", ("20", SMALL), ".", "99")
    assert found is not None
    # The reply's own token stands for its price, another for the middle of its dollar.
    assert found.prices == (9.5, 12.5, 20.99, 45.5)
    assert found.probabilities == pytest.approx((0.1, 0.3, 0.4, 0.2))
    assert found.median == 20.99
    assert found.mass == pytest.approx(1)


@pytest.mark.parametrize("mark", ["$", " ", " $", ""])
def test_the_amount_may_share_its_token_with_a_mark_or_a_space(mark: str) -> None:
    found = seen((f"{mark}20", {f"{mark}{digits}": share for digits, share in SMALL.items()}), ".", "99")
    assert found is not None
    assert found.median == 20.99


def test_alternatives_that_are_no_amounts_are_left_out_of_the_mass() -> None:
    found = seen("$", ("20", {"20": 0.3, "about": 0.4, "12": 0.1, "-": 0.1, "12.5": 0.1}), ".", "99")
    assert found is not None
    assert found.mass == pytest.approx(0.4)
    assert sum(found.probabilities) == pytest.approx(1)


def test_a_form_without_decimals_means_whole_dollars() -> None:
    found = seen(("20", SMALL), like="20")
    assert found is not None
    assert found.prices == (9, 12, 20, 45)


def told(found: Distribution | None) -> dict[float, Any]:
    assert found is not None
    shares = [pytest.approx(share) for share in found.probabilities]
    return dict(zip(found.prices, shares, strict=True))


def test_a_three_digit_token_that_goes_on_is_refined_by_the_digits_that_follow() -> None:
    follow = {"9": 0.5, "8": 0.3, "99": 0.1, ".": 0.1}
    found = seen("$", ("119", {"119": 0.8, "129": 0.2}), ("9", follow), ".", "99")
    assert told(found) == {119.5: 0.08, 1198.5: 0.24, 1199.99: 0.4, 1295: 0.2, 11999.5: 0.08}


def test_a_three_digit_token_that_might_have_gone_on_is_shared_out() -> None:
    likely = {"119": 0.9, "129": 0.1}
    found = seen("$", ("119", likely), (".", {".": 0.8, "9": 0.2}), "99")
    assert told(found) == {119.99: 0.72, 129.5: 0.1, 1199.5: 0.18}


def test_five_digits_without_a_mark_are_refined_too() -> None:
    found = seen("$", ("250", {"250": 0.6, "199": 0.4}), ("00", {"00": 0.5, "99": 0.5}), ".", "00")
    assert told(found) == {19950: 0.4, 25000: 0.3, 25099.5: 0.3}


@pytest.mark.parametrize(
    ("like", "group", "currency"),
    [("$1,199.99", ",", "USD"), ("1.199,99 \u20ac", ".", "EUR"), ("1 199,99 \u20ac", " ", "EUR")],
)
def test_thousands_are_told_by_the_forms_own_sign_and_refined_by_what_follows(
    like: str, group: str, currency: str
) -> None:
    form = PriceForm.like(like)
    hundreds = ("199", {"199": 0.6, "499": 0.4})
    dollars = ("1", {"1": 0.6, "2": 0.3, "899": 0.1})
    made = choice(dollars, group, hundreds, form.point, "99", form.suffix)
    found = distribution_from_logprobs(made, parse_price(made["message"]["content"], currency), form)
    assert found is not None
    # What is told of the thousand from $2,000 on is only that it is one.
    told_of_it: dict[float, float] = {899.5: 0.1, 1199.99: 0.36, 1499.5: 0.24}
    assert told(found) == told_of_it | dict.fromkeys((2100, 2300, 2500, 2700, 2900), 0.06)
    assert found.median == 1499.5


def test_a_reply_that_might_have_gone_on_to_thousands_spreads_that_over_them() -> None:
    found = seen(
        "$", ("25", {"25": 0.5, "19": 0.5}), (",", {",": 0.9, ".": 0.1}), "000", ".", "00", like="$1,199.99"
    )
    assert told(found) == {25.5: 0.05, 19_500: 0.5, 25_000: 0.45}
    short = seen("$", ("899", {"899": 1.0}), (".", {".": 0.7, ",": 0.3}), "00", like="$1,199.99")
    assert told(short) == {899: 0.7, 899_500: 0.3}


def test_thousands_of_which_the_hundreds_are_not_told_share_what_is_left() -> None:
    found = seen("$", ("1", {"1": 1.0}), ",", ("199", {"199": 0.5}), ".", "99", like="$1,199.99")
    assert found is not None
    assert told(found)[1199.99] == 0.5
    assert found.prices[0] == 1050
    assert found.prices[-1] == 1950


def test_grouped_amounts_below_a_thousand_are_read_beside_thousands() -> None:
    found = seen("$", ("899", {"899": 0.5, "1": 0.3, "749": 0.2}), ".", "00", like="$1,199.99")
    assert found is not None
    assert found.prices[:3] == (749.5, 899, 1050)
    assert found.prices[-1] == 1950
    assert found.median == 899


def test_a_reply_that_sets_thousands_apart_says_so_whatever_the_form() -> None:
    found = seen("$", ("1", {"1": 0.6, "2": 0.4}), ",", "199", ".", "99", like="$19.99")
    assert found is not None
    assert found.prices == (1199.99, 2100, 2300, 2500, 2700, 2900)
    plain = seen("$", ("119", {"119": 0.6, "129": 0.4}), "9", ".", "99", like="$1,199.99")
    assert told(plain) == {1199.99: 0.6, 1295: 0.4}


def test_digits_one_by_one_are_no_evidence() -> None:
    assert seen("$", ("1", {"1": 0.9, "2": 0.1}), "2", ".", "9", "9") is None
    assert seen("$", ("9", {"9": 0.4, "1": 0.6}), ".", "9", "9") is None


def test_a_doubtful_alternative_is_read_as_what_lies_nearest_to_the_median() -> None:
    """Beside $850 the token 119 is some $1,190; beside $150 it is hardly that."""
    far = seen("$", ("850", {"850": 0.4, "119": 0.3, "129": 0.3}), ".", "00")
    assert told(far) == {850: 0.4, 1195: 0.3, 1295: 0.3}
    near = seen("$", ("150", {"150": 0.4, "119": 0.3, "129": 0.3}), ".", "00")
    assert told(near) == {119.5: 0.3, 129.5: 0.3, 150: 0.4}


def test_the_median_that_alternatives_are_read_by_is_that_of_all_that_was_told() -> None:
    """From the reply's $299 the token 105 is $105; with the others, whose median is $899, it is $1,055."""
    likely = {"299": 0.22, "899": 0.18, "949": 0.18, "999": 0.18, "105": 0.08, "110": 0.08, "115": 0.08}
    found = seen("$", ("299", likely), ".", "00")
    assert found is not None
    assert found.prices == (299, 899.5, 949.5, 999.5, 1055, 1105, 1155)


def test_no_alternative_is_read_above_ten_times_the_reply() -> None:
    found = seen(
        "$", ("90", {"90": 0.2, "119": 0.2, "129": 0.2, "139": 0.2, "949": 0.2}), ".", "00", like="$19.99"
    )
    assert found is not None
    assert found.prices == (90, 119.5, 129.5, 139.5, 949.5)
    thousands = seen("$", ("90", {"90": 0.2, "2": 0.4, "3": 0.4}), ".", "00", like="$1,199.99")
    assert told(thousands) == {2.5: 0.4, 3.5: 0.4, 90: 0.2}


def test_the_highest_price_settles_what_a_token_may_stand_for() -> None:
    found = seen("$", ("850", {"850": 0.4, "119": 0.3, "129": 0.3}), ".", "00", highest=999)
    assert told(found) == {119.5: 0.3, 129.5: 0.3, 850: 0.4}


def test_a_number_that_is_not_the_price_is_no_evidence() -> None:
    assert seen(("2", {"2": 0.9, "12": 0.1}), " for", " $", "30") is None


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {},
        {"content": None},
        {"content": []},
        {"content": ["20"]},
        {"content": [{"token": "20", "logprob": -9999.0, "top_logprobs": []}]},
        {"content": [{"token": "20", "logprob": None, "top_logprobs": [{"token": "30", "logprob": None}]}]},
        {"content": [{"token": "20", "logprob": "-0.1", "top_logprobs": [{"token": "30", "logprob": "x"}]}]},
        {"content": [{"token": "20", "top_logprobs": {"30": -0.5}}]},
        {"content": [{"token": "20", "top_logprobs": ["30"]}]},
        {"content": [{"token": "20", "top_logprobs": 3}]},
        {"content": [{"token": None}]},
        "yes",
    ],
)
def test_missing_or_strange_token_probabilities_are_no_evidence(logprobs: Any) -> None:
    assert distribution_from_logprobs({"logprobs": logprobs}, 20.99, PriceForm.like("$19.99")) is None


@pytest.mark.parametrize(
    ("tokens", "like"),
    [
        (("$", ("2", {"2": 0.4, "3": 0.3}), ",", "500", ",", "000"), "$1,199"),
        (("$", ("250", {"250": 0.4, "300": 0.3}), "000", "0"), "$1199"),
    ],
)
def test_a_reply_of_millions_is_no_evidence(tokens: Sequence[Any], like: str) -> None:
    assert seen(*tokens, like=like) is None


@pytest.mark.parametrize(
    "odd", [math.nan, math.inf, 5.0, True, 10**400, -(10**400)], ids="nan inf 5 true large small".split()
)
def test_an_alternative_whose_probability_is_no_number_is_left_out(odd: float) -> None:
    made = choice("$", ("20", SMALL), ".", "99")
    made["logprobs"]["content"][1]["top_logprobs"].append({"token": "900", "logprob": odd})
    assert distribution_from_logprobs(made, 20.99, PriceForm.like("$19.99")) == seen(
        "$", ("20", SMALL), ".", "99"
    )


def test_a_price_that_is_never_meant_lies_in_no_quantile() -> None:
    found = Distribution.of([(10, 0.5), (15, 0.0), (20, 0.5), (5_000, 0.0)], source="logprobs")
    assert (found.prices, found.median, found.quantile(1)) == ((10, 20), 15, 20)


def test_the_median_of_an_even_number_of_samples_is_the_middle_of_two() -> None:
    found = distribution_from_samples([10, 40, 20, 30])
    assert found is not None
    assert (found.median, found.mean, found.quantile(0.9), found.quantile(0)) == (25, 25, 40, 10)
    assert distribution_from_samples([]) is None


# Through a predictor


def answer(*choices: dict[str, Any]) -> httpx.Response:
    used = {"prompt_tokens": 50, "completion_tokens": 4 * len(choices), "total_tokens": 0}
    return httpx.Response(200, json={"id": "c", "object": "x", "choices": list(choices), "usage": used})


def refusal(param: str, message: str, status: int = 400) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, "param": param, "code": None}})


def bodies(route: respx.Route) -> Sequence[dict[str, Any]]:
    return [json.loads(call.request.content) for call in route.calls]


MEDIAN_12 = ("20", {"20": 0.4, "12": 0.35, "9": 0.25})


def test_auto_takes_the_median_and_buys_one_reply(client: openai.OpenAI, service: respx.MockRouter) -> None:
    route = service.post("/chat/completions").mock(return_value=answer(choice("$", MEDIAN_12, ".", "99")))
    found = Predictor(client, "m").predict("a mug")
    assert (found.price, found.text, found.decoding) == (12.5, "$20.99", "median")
    assert found.distribution is not None
    assert found.distribution.source == "logprobs"
    (body,) = bodies(route)
    assert (body["logprobs"], body["top_logprobs"], body["temperature"]) == (True, 20, 0)
    assert "n" not in body


def test_the_median_is_taken_however_little_is_seen(client: openai.OpenAI, service: respx.MockRouter) -> None:
    thin = ("20", {"20": 0.05, "12": 0.04, "9": 0.03})
    service.post("/chat/completions").mock(return_value=answer(choice("$", thin, ".", "99")))
    found = Predictor(client, "m").predict("a mug")
    assert (found.text, found.decoding) == ("$20.99", "median")
    assert found.distribution is not None
    assert found.distribution.mass == pytest.approx(0.12)
    assert {9.5, 12.5, 20.99} < set(found.distribution.prices)
    assert sum(found.distribution.probabilities) == pytest.approx(1)


def test_greedy_asks_for_no_token_probabilities(client: openai.OpenAI, service: respx.MockRouter) -> None:
    route = service.post("/chat/completions").mock(return_value=answer(choice("$", MEDIAN_12, ".", "99")))
    found = Predictor(client, "m", decoding="greedy").predict("a mug")
    assert (found.price, found.decoding) == (20.99, "greedy")
    assert "logprobs" not in bodies(route)[0]


def test_mean_takes_the_mean(client: openai.OpenAI, service: respx.MockRouter) -> None:
    service.post("/chat/completions").mock(return_value=answer(choice("$", MEDIAN_12, ".", "99")))
    found = Predictor(client, "m", decoding="mean").predict("a mug")
    assert found.decoding == "mean"
    assert found.price == pytest.approx(0.4 * 20.99 + 0.35 * 12.5 + 0.25 * 9.5)


def test_samples_are_asked_for_in_one_request(client: openai.OpenAI, service: respx.MockRouter) -> None:
    prices = ["$10.00", "I cannot say.", "$40.00", "$30.00"]
    route = service.post("/chat/completions").mock(return_value=answer(*(choice(price) for price in prices)))
    found = Predictor(client, "m", decoding="median", samples=4).predict("a mug")
    assert (found.price, found.decoding) == (30, "median")
    assert found.distribution is not None
    assert (found.distribution.source, len(found.distribution.prices)) == ("samples", 3)
    (body,) = bodies(route)
    assert (body["n"], body["temperature"]) == (4, 1)
    assert "logprobs" not in body


def test_a_service_that_gives_one_sample_at_a_time_is_asked_again(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        if json.loads(request.content).get("n", 1) > 1:
            return refusal("n", "Only 'n' = 1 is supported.")
        return answer(choice(f"${10 * len(route.calls)}.00"))

    route = service.post("/chat/completions").mock(side_effect=reply)
    found = Predictor(client, "m", decoding="median", samples=3).predict("a mug")
    assert found.distribution is not None
    assert len(found.distribution.prices) == 3
    assert len(route.calls) == 4
    assert found.usage.completion_tokens == 12


def test_auto_buys_samples_only_for_items_without_evidence(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if body.get("logprobs"):
            dear = "sofa" in body["messages"][0]["content"]
            digits = choice("$", "1", "1", "9", "9", ".", "0", "0")
            return answer(digits if dear else choice("$", MEDIAN_12, ".", "99"))
        return answer(*[choice("$1500.00")] * body["n"])

    route = service.post("/chat/completions").mock(side_effect=reply)
    predictor = Predictor(client, "m", samples=5)
    assert predictor.predict("a mug").price == 12.5
    found = predictor.predict("a sofa")
    assert (found.price, found.decoding, found.usage.prompt_tokens) == (1500, "median", 100)
    assert len(route.calls) == 3


@pytest.mark.parametrize("status", [400, 403])
def test_a_refusal_of_token_probabilities_is_learned_once(
    status: int, client: openai.OpenAI, service: respx.MockRouter
) -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        if "logprobs" in json.loads(request.content):
            return refusal("logprobs", "logprobs is not supported with this model.", status)
        return answer(choice("$20.99"))

    route = service.post("/chat/completions").mock(side_effect=reply)
    predictor = Predictor(client, "m")
    assert [predictor.predict(text).price for text in ("a", "b", "c")] == [20.99] * 3
    assert ["logprobs" in body for body in bodies(route)] == [True, False, False, False]


def test_a_service_with_fewer_alternatives_gives_those(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        if json.loads(request.content).get("top_logprobs", 0) > 5:
            return refusal("top_logprobs", "top_logprobs must be at most 5.")
        return answer(choice("$", MEDIAN_12, ".", "99"))

    route = service.post("/chat/completions").mock(side_effect=reply)
    assert Predictor(client, "m").predict("a mug").decoding == "median"
    assert [body.get("top_logprobs") for body in bodies(route)] == [20, 5]


def test_the_other_name_for_the_reply_limit_is_learned_once(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        if "max_tokens" in json.loads(request.content):
            message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return refusal("max_tokens", message)
        return answer(choice("$20.99"))

    route = service.post("/chat/completions").mock(side_effect=reply)
    predictor = Predictor(client, "m")
    assert [predictor.predict(text).price for text in ("a", "b")] == [20.99] * 2
    assert ["max_tokens" in body for body in bodies(route)] == [True, False, False]


@pytest.mark.parametrize(
    ("address", "limit"),
    [("https://api.openai.com/v1", "max_completion_tokens"), ("https://any.test/v1", "max_tokens")],
)
def test_a_replys_limit_is_called_as_the_service_has_it(address: str, limit: str) -> None:
    with respx.mock(base_url=address) as router, openai.OpenAI(base_url=address, api_key="x") as asking:
        route = router.post("/chat/completions").mock(return_value=answer(choice("$20.99")))
        Predictor(asking, "m").predict("a mug")
    assert {name for name in bodies(route)[0] if "tokens" in name} == {limit}


@pytest.mark.parametrize(
    ("most", "sent"), [(0, [None, None]), (5, [True, 5]), (50, [True, 50]), (1_000, [True, 100])]
)
def test_a_profile_says_how_many_alternatives_are_asked_for(
    most: int, sent: list[Any], client: openai.OpenAI, service: respx.MockRouter
) -> None:
    route = service.post("/chat/completions").mock(return_value=answer(choice("$20.99")))
    Predictor(client, "m", provider=Provider(name="mine", most_logprobs=most)).predict("a mug")
    assert [bodies(route)[0].get(name) for name in ("logprobs", "top_logprobs")] == sent


def test_a_service_that_gives_fewer_alternatives_than_its_profile_says_is_asked_for_those(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        if json.loads(request.content).get("top_logprobs", 0) > 20:
            message = "Requested sample logprobs of 100, which is greater than max allowed: 20"
            return httpx.Response(400, json={"object": "error", "message": message, "code": 400})
        return answer(choice("$", MEDIAN_12, ".", "99"))

    route = service.post("/chat/completions").mock(side_effect=reply)
    predictor = Predictor(client, "m", provider=Provider(name="vllm", most_logprobs=1_000))
    assert [predictor.predict(text).price for text in ("a", "b")] == [12.5] * 2
    assert [body.get("top_logprobs") for body in bodies(route)] == [100, 20, 20]


def test_the_profile_knows_the_number_of_alternatives_by_its_former_name_too() -> None:
    former: Any = {"logprobs": 7}
    assert Provider(name="mine", **former).most_logprobs == 7
    assert (Provider(name="mine").most_logprobs, PROVIDERS["local"].most_logprobs) == (20, 1_000)


@pytest.mark.parametrize("model", ["o4-mini", "gpt-5-nano", "ft:o4-mini:me::1", "openai/gpt-6-luna"])
def test_a_reasoning_model_gets_no_temperature_and_room_to_think(
    model: str, client: openai.OpenAI, service: respx.MockRouter
) -> None:
    route = service.post("/chat/completions").mock(return_value=answer(choice("$20.99")))
    assert Predictor(client, model).predict("a mug").price == 20.99
    (body,) = bodies(route)
    assert not {"temperature", "logprobs", "max_tokens"} & set(body)
    assert body["max_completion_tokens"] > 4000


def test_a_model_that_refuses_a_temperature_is_taken_for_a_reasoning_one(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        if "temperature" in json.loads(request.content):
            return refusal("temperature", "Only the default (1) value is supported.")
        return answer(choice("$20.99"))

    route = service.post("/chat/completions").mock(side_effect=reply)
    assert Predictor(client, "thinker").predict("a mug").price == 20.99
    assert len(route.calls) == 2


def test_a_refusal_that_nothing_can_be_learned_from_is_raised_at_once(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    route = service.post("/chat/completions").mock(return_value=refusal("messages", "Too long."))
    with pytest.raises(RequestRejected, match="Too long"):
        Predictor(client, "m").predict("a mug")
    route.mock(return_value=refusal("max_tokens", "'max_tokens' is bad, and so is 'max_completion_tokens'."))
    with pytest.raises(RequestRejected):
        Predictor(client, "m").predict("a mug")
    assert len(route.calls) == 3


@pytest.mark.parametrize("like", ["$19.99", "$1,199.99", "20", "The price is 19.99 dollars"])
def test_no_price_in_range_is_cut(like: str, client: openai.OpenAI, service: respx.MockRouter) -> None:
    """Even where each character is a token, and even up to the highest price."""
    route = service.post("/chat/completions").mock(return_value=answer(choice("$20.99")))
    formatter = ChatFormatter(reply=like)
    Predictor(client, "m", formatter=formatter).predict("a mug")
    Predictor(client, "m", formatter=formatter, highest=500).predict("a mug")
    long, short = (body["max_tokens"] for body in bodies(route))
    assert long > len(PriceForm.like(like).write(999_999.99))
    assert len(PriceForm.like(like).write(500)) < short < long


@pytest.mark.parametrize(
    "setting", [{"decoding": "best"}, {"samples": 0}, {"samples": 129}, {"highest": 0}, {"highest": math.inf}]
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any], client: openai.OpenAI) -> None:
    with pytest.raises(DataError):
        Predictor(client, "m", **setting)
