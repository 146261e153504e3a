"""An OpenAI-compatible fine-tuning server that really trains: no key, no network, no cost.

```python
from finetune_pricer.local import LocalServer

with LocalServer() as server:
    client = server.client()
```

It trains a small sparse network that reads a text and gives a price. This is not a language model.
"""

from .faults import Faults
from .learners import Learner
from .server import LocalServer, serve

__all__ = ["Faults", "Learner", "LocalServer", "serve"]
