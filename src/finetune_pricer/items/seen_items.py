"""`SeenItems`: which products something was learned from, without keeping them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Self

from .item import ID_FIELDS, Item

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    Hashes = npt.NDArray[np.uint64]


class SeenItems:
    """Hashes of products, by which the same one is known again, whatever its price is said to be.

    Eight bytes a product. The same one has the same id and the same texts: rows of two files may have the
    same number, and two products the same words. Twins are other products: `audit` finds those.
    """

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = hashes
        """In ascending order, shape `(products,)`."""

    @classmethod
    def of(cls, items: Iterable[Item]) -> Self:
        """Take note of some products."""
        import numpy as np

        return cls(np.unique(_hash_items(items)))

    def find(self, items: Iterable[Item]) -> list[int]:
        """Return the positions, from 0 on, of those items that are among these."""
        import numpy as np

        rows: list[int] = np.flatnonzero(np.isin(_hash_items(items), self.hashes)).tolist()
        return rows


def _hash_items(items: Iterable[Item]) -> Hashes:
    import numpy as np

    return np.fromiter(map(_hash_item, items), dtype=np.uint64)


def _hash_item(item: Item) -> int:
    content = "\x1f".join(str(getattr(item, name) or "") for name in ("id", *ID_FIELDS))
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big")
