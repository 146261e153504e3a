"""Products: one `Item`, many in an `ItemDataset`, and the three `ItemSplits` of a data set.

```text
item          one product, checked when it is made
spool         rows in memory or in a mapped file, whichever fits
tables        tables of items: made, put together, taken from, written
ingest        foreign rows -> rows of items, with every bad row named
file_formats  files -> foreign rows
sampling      which rows to draw, and how to split
description   what a set looks like
hub           the Hugging Face Hub: load, push, log in
splits        ItemSplits
dataset       ItemDataset, which stands on all of these
```
"""

from .dataset import ItemDataset
from .description import Description
from .hub import login
from .item import Item
from .item import require_item as require_item
from .item import require_items as require_items
from .item import require_price as require_price
from .item import require_questions as require_questions
from .item import require_set as require_set
from .splits import ItemSplits

__all__ = ["Description", "Item", "ItemDataset", "ItemSplits", "login"]
