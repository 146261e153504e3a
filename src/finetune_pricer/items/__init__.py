"""Products: one `Item`, many in an `ItemDataset`, and the three `ItemSplits` of a data set.

```text
item          one product, checked when it is made
text          what a model sees of it
spool         rows in memory or in a mapped file, whichever fits
tables        tables of items: made, put together, taken from, written
cells         cells of foreign columns as texts and numbers, exactly
cell_rules    what is said of foreign cells: currency, decimals, zeros, markup
price_column  a column of foreign prices, decided as a whole
markup        HTML in texts
ingest        foreign rows -> rows of items, with every bad row named
foreign_rows  records, frames and Arrow tables -> foreign rows
file_formats  files -> foreign rows, by way of `formats/`, a kind of file each
sampling      which rows to draw, and how to split
description   what a set looks like
seen_items    which products something was learned from
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
from .seen_items import SeenItems as SeenItems
from .splits import ItemSplits
from .text import SHOWN_FIELDS as SHOWN_FIELDS
from .text import check_fields as check_fields
from .text import lacks_title as lacks_title
from .text import require_item_text as require_item_text
from .text import write_text as write_text

__all__ = ["Description", "Item", "ItemDataset", "ItemSplits", "login"]
