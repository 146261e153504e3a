"""`Ensemble`: several predictors as one, weighed by how near they come to known prices."""

from __future__ import annotations

import copy
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from .._arguments import refuse, require_many, require_whole
from .._display import PrintsAsPage
from .._escape import escape_line
from .._format import agree_on_currency, format_dollars
from .._methods.duplicates import group_ids
from .._progress import track
from ..errors import DataError, NotSupported
from ..items import Item, SeenItems, require_item, require_items, require_price
from ._base import BasePredictor, check_calibration_items, require_currency_of
from .conformal import Ranges
from .ensemble_member import (
    EnsembleMember,
    count_tokens,
    cut_name,
    learn_errors,
    price_thousand,
    read_price,
    sum_costs,
    tabulate,
    write_interval,
)
from .mixture import mix, spread_by_errors
from .plain_forms import currency_from_plain, currency_to_plain, read_arrays, write_arrays
from .prediction import Prediction, Predictions, PricesMany, Usage
from .saved_pricer import Access, SavedPricer, load_kind, require_unseen, save_pricer
from .side_by_side import ask_side_by_side

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from .._methods.blend import Blend, Guesses
    from .decoding import Distribution
    from .range_groups import By

Space = Literal["log", "linear"]
"""Of what the mean is taken: of log(1 + price), or of prices."""

_FEWEST = 10  # items to learn weights on
_ROUNDING = 1e-9  # of the error: a smaller gain is none
_SEEN, _MEMBERS = "seen", "members"
_log = logging.getLogger("finetune_pricer")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """What an ensemble learned."""

    members: tuple[EnsembleMember, ...]
    space: Space
    n: int
    best: int
    """The member that came nearest by itself."""
    mae: tuple[float, float, float]
    """The mean absolute error of the mean, by cross-validation, and its 95 % interval."""
    gain: tuple[float, float, float]
    """By how much it came nearer than the best member, and the 95 % interval of that."""
    currency: str

    @property
    def weights(self) -> tuple[float, ...]:
        return tuple(member.weight for member in self.members)

    @property
    def alone(self) -> int | None:
        """The one member that the ensemble is; None where it has several."""
        asked = [place for place, weight in enumerate(self.weights) if weight]
        return asked[0] if len(asked) == 1 else None


class Ensemble(PrintsAsPage, SavedPricer):
    """Several predictors as one: the weighted mean of their prices.

    What errs differently cancels out in the mean. `fit` learns the weights on items whose prices are known,
    and whether the mean is taken of prices or of their logarithms. An ensemble that comes no nearer than its
    best member on those items, by cross-validation, or hardly (by less than half a standard error), is that
    member, and says so. Members of weight 0 are not asked and cost nothing. `print(ensemble)` shows the
    weights, errors and costs.

    Where a member has no price for an item, or its service fails, the weights of the others are scaled to 1,
    and the log says how often; where none has one, the item has no price and the members' reasons.

    Each prediction has a `distribution`: the mixture of the members' own, around the ensemble's price. A
    member that gives none is taken to err as it did on the items of `fit`.

    Members that ask services are asked side by side. There is no `AsyncEnsemble`: async code calls
    `await asyncio.to_thread(ensemble.predict_many, items)`.

    Args:
        members: Whatever has `predict_many`: predictors, baselines, prompted models, other ensembles.

    Raises:
        WrongArgument: There are none, or one has no `predict_many`.
        DataError: Their prices are in different currencies.

    Examples:
        >>> from finetune_pricer import Ensemble, MadeUpCatalogue
        >>> from finetune_pricer.evaluate import MedianBaseline, RidgeBaseline
        >>> train, validation, test = MadeUpCatalogue().splits(train=300, validation=100, test=2)
        >>> ensemble = Ensemble([RidgeBaseline.fit(train), MedianBaseline.fit(train)]).fit(validation)
        >>> max(ensemble.weights, key=ensemble.weights.get)
        'ridge on words'
        >>> len(ensemble.predict_many(test))
        2
    """

    def __init__(self, members: Iterable[PricesMany]) -> None:
        require_many("members", members, "a list of predictors")
        given = tuple(members)
        if not given:
            raise refuse("members", "at least one predictor", list(given))
        for number, member in enumerate(given, start=1):
            _require_member(f"member {number}", member)
        self._members: tuple[PricesMany | None, ...] = (
            given  # where it was loaded, those of weight 0 are None
        )
        self._names = _name_members(given)
        said = zip(self._names, given, strict=True)
        self.currency: str = agree_on_currency({name: _currency_of(member) for name, member in said})
        """ISO code of its prices' currency, which is that of its members."""
        self.ranges: Ranges | None = None
        """What gives predictions their `low` and `high`; None before `calibrate`."""
        self.seen: SeenItems | None = None
        """Which items its weights were learned on; None before `fit`."""
        self._fit: _Fit | None = None

    @property
    def name(self) -> str:
        """What tables call it."""
        fit = self._fit
        if fit is None or fit.alone is None:
            return f"ensemble of {len(self._members)}"
        return f"ensemble of {len(self._members)} ({cut_name(self._names[fit.alone])} alone)"

    @property
    def members(self) -> tuple[EnsembleMember, ...]:
        """What each member weighs, errs and costs, in the order in which they were handed in.

        Raises:
            DataError: The weights are not learned yet.
        """
        return self._require_fit().members

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each member, by its name.

        Raises:
            DataError: The weights are not learned yet.
        """
        return {member.name: member.weight for member in self.members}

    @property
    def space(self) -> Space:
        """Whether the mean is taken of log(1 + price), `log`, or of prices, `linear`.

        Raises:
            DataError: The weights are not learned yet.
        """
        return self._require_fit().space

    @property
    def cost(self) -> float | None:
        """Dollars for 1,000 items, of all members that are asked; None where nobody knows one of them.

        Raises:
            DataError: The weights are not learned yet.
        """
        return sum_costs(self.members)

    @property
    def spent(self) -> float | None:
        """Dollars that questions of the members with a budget cost by now; None where none has one."""
        known = [spent for member in self._members if (spent := getattr(member, "spent", None)) is not None]
        return math.fsum(known) if known else None

    def fit(
        self,
        items: Iterable[Item],
        *,
        groups: Sequence[Any] | npt.NDArray[Any] | None = None,
        seed: int = 42,
    ) -> Self:
        """Ask every member for prices that are known, and return an ensemble with weights learned from that.

        Use items that no member was trained or fitted on, such as the validation items, and evaluate on
        others; where a member is known to have seen them, such as a baseline, they are refused. Items that
        `ItemDataset.sample` drew evenly count for what each `stands_for`.

        Args:
            items: Items with prices; at least 10, and better hundreds.
            groups: A label for each item, equal for items that err alike, such as `audit(items).groups()`:
                a group is then held out as a whole.
            seed: Of the cross-validation and the intervals.

        Raises:
            InvalidItem: An item has no price; nothing was asked.
            DataError: There are too few items, a member has seen some, or their prices are in another
                currency than the members', and nothing was asked; or no member gave a price.
            OverBudget: A member's budget is too small for these items.
            ServiceError: As `Predictor.predict_many`.
        """
        known, counts = self._check_items(items)
        require_whole("seed", seed, low=0)
        numbers = _number_groups(groups, len(known))
        answers = track(
            self._ask(known, range(len(self._members)), strict=True), total=len(known), doing="asking members"
        )
        rows = [found for _, found in answers]
        for found in rows:
            _agree(found, self._names, self.currency)
        table = list(zip(*rows, strict=True))
        self._require_budgets_left()
        for name, column in zip(self._names, table, strict=True):
            if all(read_price(one) is None for one in column):
                _log.warning("%s priced not one of %d items: %s", name, len(known), column[0].error)
        truths = [require_price(item, "an ensemble") for item in known]
        from .._methods.blend import learn_blend  # it computes with numpy

        blend = learn_blend(_collect(table, truths, counts, numbers), seed=int(seed))
        fitted = copy.copy(self)
        fitted._restore(self._describe(blend, table, truths), self._members, SeenItems.of(known))  # noqa: SLF001
        return fitted

    def predict(self, item: Item | str) -> Prediction:
        """Price one item, or a text.

        Raises:
            DataError: The weights are not learned yet.
            InvalidItem: The text is empty.
            ServiceError: No member could be asked.
        """
        require_item(item, or_text=True)
        return self.predict_many([item])[0]

    def __call__(self, item: Item | str) -> float | None:
        """Return just the price, or None where no member has one."""
        return self.predict(item).price

    def predict_many(self, items: Iterable[Item | str]) -> Predictions:
        """Price many items at once, with a progress bar; the order is kept.

        `usage` is the sum of the members', `latency` that of the slowest one.

        Raises:
            DataError: The weights are not learned yet, or the items' prices are in another currency.
            ServiceError: No member could be asked.
        """
        total = len(items) if isinstance(items, Sized) else None
        found = self.iter_predict(items)
        return Predictions(track(found, total=total, doing="pricing", failed=lambda one: one.price is None))

    def iter_predict(self, items: Iterable[Item | str]) -> Iterator[Prediction]:
        """Yield predictions in the items' order; memory does not grow with the items.

        Raises:
            DataError: The weights are not learned yet, or the items' prices are in another currency.
            ServiceError: No member could be asked.
        """
        self._require_fit()
        require_items(items, or_text=True)
        require_currency_of(items, self)
        return self._iter_predict(items, strict=False)

    def calibrate(self, items: Iterable[Item], *, coverage: float = 0.9, by: By | None = None) -> Self:
        """Ask for prices that are known, and return an ensemble whose predictions have price ranges.

        Use items that no member has seen, and others than those of `fit`, which are refused. What is promised
        is what `Predictor.calibrate` promises, as long as the members answer as they do here.

        Args:
            items: Items with prices; at least 9 for 90 %, 19 for 95 %, and better hundreds.
            coverage: Share of true prices that the ranges shall hold.
            by: Keep the promise in each group of these; see `Predictor.calibrate`.

        Raises:
            InvalidItem: An item has no price; nothing was asked.
            DataError: The weights are not learned yet, a setting is out of range, there are too few items, or
                some of them were seen, and nothing was asked; or too few of the predictions have a price.
            OverBudget: A member's budget is too small for these items.
            ServiceError: As `Predictor.predict_many`.
        """
        self._require_fit()
        known = check_calibration_items(items, self, coverage, by)
        self._require_unseen(known, "price ranges are learned")
        found = list(self._iter_predict(known, strict=True))
        self._require_budgets_left()
        calibrated = copy.copy(self)
        calibrated.ranges = Ranges.learn(found, known, coverage=coverage, by=by)
        return calibrated

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the ensemble with its members, weights and price ranges into a folder.

        Args:
            folder: Made where it is missing; a pricer that was saved there is replaced as a whole.

        Raises:
            NotSupported: A member cannot be saved; nothing was written.
            DataError: The folder holds a `pricer.json` that is no saved pricer's.
            FileAccessError: The folder cannot be written.
        """
        save_pricer(self, folder)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        client: Any = None,
        *,
        store: str | os.PathLike[str] | None = None,
        embed: Callable[..., Any] | None = None,
    ) -> Self:
        """Read what `save` wrote.

        Args:
            folder: What `save` wrote.
            client: For members that ask a service; without one, `connect` makes one for each. Where the
                members are of several services, it is for those of its own, and `connect` for the others.
            store: As in `Predictor`, for all members that ask a service.
            embed: The function from texts to vectors, where a formatter has neighbors that were found by one.

        Raises:
            MissingFile: There is no saved pricer.
            DataError: What is there is none, another kind, was changed since, or is of a newer version.
            NotConfigured: No client is given, and a service's key is not set, or the service is unknown.
        """
        return cast("Self", load_kind(cls, folder, Access(client=client, store=store, embed=embed)))

    def __str__(self) -> str:
        if self._fit is None:
            return f"{self.name}, not fitted yet: fit(items) learns the weights"
        fit = self._fit
        space = "log(1 + price)" if fit.space == "log" else "prices"
        mean = f"The mean is taken of {space}. " if fit.alone is None else ""
        lines = [escape_line(self._summary), "", *tabulate(fit.members, fit.currency), ""]
        return "\n".join(
            [*lines, f"{mean}1,000 items cost {format_dollars(self.cost)}; weight 0 is not asked."]
        )

    @property
    def _summary(self) -> str:
        fit = self._require_fit()
        if len(self._members) == 1:
            return f"{self.name}, on {fit.n:,} items"
        error = f"MAE {write_interval(*fit.mae, fit.currency)}"
        gain, low, _ = fit.gain
        nearer = f"{write_interval(*fit.gain, fit.currency)} nearer"
        if fit.alone is None:
            doubt = "" if low > 0 else ", which chance alone may give"
            than = f"{nearer} than {cut_name(self._names[fit.best])} alone{doubt}"
            return f"{self.name}: {error} on {fit.n:,} items, by cross-validation: {than}"
        came = f"only {nearer}" if gain > _ROUNDING * fit.mae[0] else "no nearer"
        return f"{self.name}: by cross-validation on {fit.n:,} items the members' mean came {came}, {error}"

    def _require_fit(self) -> _Fit:
        if self._fit is None:
            raise DataError(
                "this ensemble has no weights yet; Ensemble(members).fit(validation) learns them, and "
                "returns one that has them"
            )
        return self._fit

    def _check_items(self, items: Iterable[Item]) -> tuple[list[Item], list[float]]:
        """Return the items to learn weights on, and how much each counts; refuse what does not fit."""
        require_items(items)
        agree_on_currency({"the items": getattr(items, "currency", None), "the members": self.currency})
        if missing := [name for name, one in zip(self._names, self._members, strict=True) if one is None]:
            raise DataError(
                f"{', '.join(missing)}: members of weight 0 are not saved with an ensemble; make a new one "
                "of all members to learn other weights"
            )
        known, zero_is = list(items), getattr(items, "zero_is", None)
        for row, item in enumerate(known, start=1):
            require_item(item, row)
            require_price(item, "an ensemble", row, zero_is)
        if len(known) < _FEWEST:
            raise DataError(
                f"the weights of an ensemble are learned on at least {_FEWEST} items, and there are "
                f"{len(known)}; hand in more, better hundreds, or use one of its members"
            )
        self._require_unseen(known, "weights are learned")
        counts = getattr(items, "stands_for", None)
        return known, [1.0] * len(known) if counts is None else [float(count) for count in counts]

    def _require_unseen(self, items: Sequence[Item], what: str) -> None:
        require_unseen(self, items, what)
        for name, member in zip(self._names, self._members, strict=True):
            if isinstance(member, Ensemble):
                member._require_unseen(items, what)  # noqa: SLF001 - of the same class
            require_unseen(member, items, what, name)

    def _require_budgets_left(self) -> None:
        # What was not asked for want of dollars says nothing of a member.
        for member in self._members:
            if isinstance(member, BasePredictor):
                member.require_budget_left()
            elif isinstance(member, Ensemble):
                member._require_budgets_left()  # noqa: SLF001 - of the same class

    def _ask(
        self, items: Iterable[Item | str], places: Iterable[int], *, strict: bool
    ) -> Iterator[tuple[Item | str, list[Prediction]]]:
        members = [(self._names[place], cast("PricesMany", self._members[place])) for place in places]
        return ask_side_by_side(members, items, strict=strict)

    def _iter_predict(self, items: Iterable[Item | str], *, strict: bool) -> Iterator[Prediction]:
        fit = self._require_fit()
        places = [place for place, weight in enumerate(fit.weights) if weight]
        members = [fit.members[place] for place in places]
        gaps: Counter[str] = Counter()
        count = 0
        for item, found in self._ask(items, places, strict=strict):
            prediction = _combine(found, members, fit)
            count += 1
            if prediction.price is not None:
                pairs = zip(members, found, strict=True)
                gaps.update(member.name for member, one in pairs if read_price(one) is None)
            if self.ranges is not None:
                category = item.category if isinstance(item, Item) else None
                prediction = self.ranges.around(prediction, category)
            yield prediction
        for name, gap in gaps.items():
            _log.warning(
                "%s had no price for %d of %d items, which the other members priced", name, gap, count
            )

    def _describe(self, blend: Blend, table: Sequence[Sequence[Prediction]], truths: Sequence[float]) -> _Fit:
        described = zip(
            self._names,
            self._members,
            blend.weights,
            blend.member_errors,
            blend.member_intervals,
            table,
            strict=True,
        )
        members = tuple(
            EnsembleMember(
                name=name,
                weight=float(weight),
                mae=float(mae),
                low=interval.low,
                high=interval.high,
                unpriced=sum(read_price(one) is None for one in column),
                tokens=count_tokens(column),
                cost=price_thousand(member, column),
                errors=learn_errors(column, truths),
            )
            for name, member, weight, mae, interval, column in described
        )
        return _Fit(
            members=members,
            space="log" if blend.in_logs else "linear",
            n=len(truths),
            best=blend.best,
            mae=(blend.mean_error, blend.error.low, blend.error.high),
            gain=(blend.gain, blend.gain_interval.low, blend.gain_interval.high),
            currency=self.currency,
        )

    def _set_ranges(self, ranges: Ranges) -> None:
        self.ranges = ranges

    def _restore(self, fit: _Fit, members: Iterable[Any], seen: SeenItems | None) -> None:
        self._fit, self._members, self.seen = fit, tuple(members), seen
        self._names = tuple(member.name for member in fit.members)
        self.currency, self.ranges = fit.currency, None

    @property
    def _asked(self) -> dict[int, SavedPricer]:
        """The members that have a weight, by their places."""
        weights = self._require_fit().weights
        return {
            place: cast("SavedPricer", member)
            for place, (member, weight) in enumerate(zip(self._members, weights, strict=True))
            if weight
        }

    def _require_savable(self) -> None:
        for place, member in self._asked.items():
            if not isinstance(member, SavedPricer):
                raise NotSupported(
                    f"{self._names[place]} cannot be saved with the ensemble: a {type(member).__name__} has "
                    "no save(); predictors, baselines and ensembles can be saved"
                )
            member._require_savable()  # noqa: SLF001 - of the base

    def _to_saved(self, parts: Path) -> dict[str, Any]:
        fit = self._require_fit()
        for place, member in self._asked.items():
            save_pricer(member, parts / _MEMBERS / str(place))
        write_arrays(parts, {} if self.seen is None else {_SEEN: self.seen.hashes})
        return {
            **asdict(fit),
            "currency": currency_to_plain(fit.currency),
            "services": sorted(_find_services(self)),
        }

    @classmethod
    def _from_saved(cls, content: dict[str, Any], parts: Path, access: Access) -> Self:
        values = dict(content)
        access = replace(access, of_several=access.of_several or len(values.pop("services")) > 1)
        members = tuple(
            EnsembleMember(**member | {"errors": tuple(member["errors"])}) for member in values["members"]
        )
        content_of_fit: dict[str, Any] = {
            **values,
            "members": members,
            "currency": currency_from_plain(values["currency"]),
            "mae": tuple(map(_read_end, values["mae"])),
            "gain": tuple(map(_read_end, values["gain"])),
        }
        found = [
            load_kind(SavedPricer, parts / _MEMBERS / str(place), access) if member.weight else None
            for place, member in enumerate(members)
        ]
        seen = read_arrays(parts).get(_SEEN)
        made = cls.__new__(cls)
        made._restore(_Fit(**content_of_fit), found, None if seen is None else SeenItems(seen))  # noqa: SLF001
        return made


def _combine(found: Sequence[Prediction], members: Sequence[EnsembleMember], fit: _Fit) -> Prediction:
    """Return the one prediction that the members' make."""
    currency = _agree(found, [member.name for member in members], fit.currency)
    if len(found) == 1:
        return _complete(found[0], members[0])
    known = [
        (price, one, member)
        for one, member in zip(found, members, strict=True)
        if (price := read_price(one)) is not None
    ]
    whole = math.fsum(member.weight for _, _, member in known)
    prediction = Prediction(
        item_id=found[0].item_id,
        price=None,
        decoding="ensemble",
        usage=sum((one.usage for one in found), Usage()),
        latency=max(one.latency for one in found),
        currency=currency,
    )
    if not known:
        pairs = zip(found, members, strict=True)
        reasons = (
            f"{member.name}: {one.error or f'no amount of money: {one.price!r}'}" for one, member in pairs
        )
        return replace(prediction, error=f"no member has a price; {'; '.join(reasons)}")
    weighed = [(price, member.weight / whole) for price, _, member in known]
    if fit.space == "log":
        price = math.expm1(math.fsum(math.log1p(price) * weight for price, weight in weighed))
    else:
        price = math.fsum(price * weight for price, weight in weighed)
    parts = [
        (_find_distribution(one, price, member), weight)
        for (price, one, member), (_, weight) in zip(known, weighed, strict=True)
    ]
    return replace(prediction, price=price, distribution=mix(parts, price))


def _agree(found: Sequence[Prediction], names: Sequence[str], currency: str) -> str:
    """Return the currency of all prices that members gave for an item.

    Raises:
        DataError: They are in different ones, or in another than the ensemble's.
    """
    said = {name: one.currency for name, one in zip(names, found, strict=True) if one.price is not None}
    return agree_on_currency({"the ensemble": currency, **said})


def _complete(found: Prediction, member: EnsembleMember) -> Prediction:
    """Return the prediction of the one member that is asked: with a distribution, without its own ranges."""
    price, distribution = read_price(found), found.distribution
    if price is None:
        return replace(found, price=None, error=found.error or f"no amount of money: {found.price!r}")
    if distribution is None:
        distribution = mix([(spread_by_errors(price, member.errors), 1.0)], price)
    return replace(found, low=None, high=None, distribution=distribution)


def _find_distribution(found: Prediction, price: float, member: EnsembleMember) -> Distribution:
    return found.distribution or spread_by_errors(price, member.errors)


def _collect(
    table: Sequence[Sequence[Prediction]],
    truths: Sequence[float],
    counts: Sequence[float],
    groups: npt.NDArray[Any] | None,
) -> Guesses:
    import numpy as np

    from .._methods.blend import Guesses  # it computes with numpy

    prices = np.array([[read_price(one) for one in column] for column in table], dtype=np.float64).T
    if np.isnan(prices).all():
        raise DataError(f"no member priced any of {len(truths):,} items; the first: {table[0][0].error}")
    return Guesses(prices, np.array(truths), np.array(counts), float(np.median(truths)), groups)


def _find_services(member: object) -> set[str]:
    """Return the names of the services that a member asks."""
    if isinstance(member, Ensemble):
        return {name for each in member._asked.values() for name in _find_services(each)}  # noqa: SLF001
    return {member.service} if isinstance(member, BasePredictor) else set()


def _require_member(name: str, member: object) -> None:
    if getattr(member, "_awaits", False):
        raise refuse(
            name,
            "a predictor of plain code",
            member,
            "hand in a Predictor, and call the ensemble by asyncio.to_thread",
        )
    if not isinstance(member, PricesMany) or isinstance(member, type):
        raise refuse(
            name,
            "a predictor or whatever else has predict_many",
            member,
            "Ensemble([a, b]) takes a list of them",
        )
    if isinstance(member, Ensemble):
        member._require_fit()  # noqa: SLF001 - of the same class


def _name_members(members: Sequence[PricesMany]) -> tuple[str, ...]:
    """Return a name for each member; of several that have the same name, the later ones with a number."""
    names: list[str] = []
    for member in members:
        name = str(getattr(member, "name", None) or getattr(member, "model", None) or type(member).__name__)
        same = sum(each == name or each.startswith(f"{name} (") for each in names)
        names.append(f"{name} ({same + 1})" if same else name)
    return tuple(names)


def _currency_of(member: PricesMany) -> str | None:
    return getattr(getattr(member, "formatter", member), "currency", None)


def _number_groups(labels: Sequence[Any] | npt.NDArray[Any] | None, count: int) -> npt.NDArray[Any] | None:
    if labels is None:
        return None
    require_many("groups", labels, "a label for each item")
    if not hasattr(labels, "__len__") or len(labels) != count:
        raise DataError(f"groups must be a label for each of {count:,} items")
    numbers = group_ids(labels)
    if not numbers.any():
        raise DataError(
            "groups= gives all items one label, and weights are learned on some groups and tried on others; "
            "give labels of which there are more, or none"
        )
    return numbers


def _read_end(value: float | None) -> float:
    # JSON has no NaN, which the end of an interval may be.
    return math.nan if value is None else value
