"""Products: one `Item`, many in an `ItemDataset`, and the three splits that a road needs.

```text
item          one product, checked when it is made
spool         rows put aside, in memory or in a mapped file
reading       foreign rows -> rows of items, with every bad one told
sources       files -> foreign rows
rows          tables made, joined, taken from, written
sampling      which rows to draw, and how to split
describing    what a set looks like
hub           the Hugging Face Hub, in and out
dataset       ItemDataset and ItemSplits, which stand on all of these
```
"""

from .dataset import ItemDataset, ItemSplits, login
from .item import Item, require_price

__all__ = ["Item", "ItemDataset", "ItemSplits", "login", "require_price"]
