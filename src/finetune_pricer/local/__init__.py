"""An OpenAI-compatible fine-tuning server that really trains: no key, no network, no cost.

```python
from finetune_pricer.local import LocalServer

with LocalServer() as server:
    client = server.client()
```

What it trains is a small sparse network that reads a text and gives a price. It is not a language model.
"""

from .server import LocalServer, serve

__all__ = ["LocalServer", "serve"]
