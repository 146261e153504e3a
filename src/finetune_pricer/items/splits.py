"""The three splits of a data set: to learn from, to watch meanwhile, and to judge by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from .._arguments import require_flag, require_text
from ..errors import DataError
from . import hub
from .cell_rules import write_notes
from .item import require_set

if TYPE_CHECKING:
    from .dataset import ItemDataset


class ItemSplits(NamedTuple):
    """Three sets of items: what a model learns from, what is watched meanwhile, and what it is judged by."""

    train: ItemDataset
    validation: ItemDataset
    test: ItemDataset

    def push_to_hub(
        self,
        repo: str,
        *,
        private: bool = True,
        token: str | None = None,
        licence: str | None = None,
    ) -> str:
        """Upload the splits to the Hugging Face Hub, with a card that says where the rows came from.

        The card names what was removed on the way, from the sets' `history`. `ItemDataset.from_hub(repo)`
        reads the splits again.

        Args:
            repo: Such as `"owner/name"`; made when it is not there.
            private: Whether only you see it. A repository that is there already stays as it is.
            token: As in `from_hub`; it must be allowed to write.
            licence: The licence's name for the card, such as `"mit"`; none is claimed without it.

        Returns:
            The address of the data set.

        Raises:
            HubError: The Hub refuses, or does not answer.
        """
        require_text("repo", repo, "give a name such as 'owner/name'")
        require_flag("private", private)
        require_text("token", token, or_none=True)
        require_text("licence", licence, or_none=True)
        return hub.push(self._for_hub(), repo, private=private, token=token, licence=licence)

    def _for_hub(self) -> dict[str, hub.HubSplit]:
        for name, items in self._asdict().items():
            require_set(items, name)
        if len(currencies := {items.currency: None for items in self}) > 1:
            raise DataError(
                f"prices in {' and '.join(currencies)} cannot stand in one data set; convert them"
            )
        return {
            name: hub.HubSplit(
                table=items.table,
                history=items.history,
                description=str(replace(items.describe(), history=())),
                notes=write_notes(items.currency, items.zero_is),
            )
            for name, items in self._asdict().items()
        }
