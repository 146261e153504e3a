"""An OpenAI-compatible fine-tuning server that really trains: no key, no network, no cost.

```python
from finetune_pricer.local import LocalServer

with LocalServer() as server:
    client = server.client()
```

What it trains is a small sparse network that reads a text and gives a price. It is not a language model.
"""

from typing import TYPE_CHECKING, Any

from .server import LocalServer, serve

if TYPE_CHECKING:
    from .faults import Faults

__all__ = ["Faults", "LocalServer", "serve"]


def __getattr__(name: str) -> Any:
    # pydantic is imported for it, which the library leaves until it is needed.
    if name == "Faults":
        from .faults import Faults

        return Faults
    raise AttributeError(f"module 'finetune_pricer.local' has no attribute {name!r}")
