"""An OpenAI-compatible fine-tuning server that really trains: no key, no network, no cost.

```python
from finetune_pricer.local import LocalServer

with LocalServer() as server:
    client = server.client()
```

It trains a small sparse network that reads a text and gives a price. This is not a language model.
"""

from typing import TYPE_CHECKING

from .._lazy import resolve_late
from .faults import Faults
from .learners import Learner
from .server import LocalServer, serve

if TYPE_CHECKING:
    from .learners.lora import AdapterPricer, LoraLearner

__all__ = ["AdapterPricer", "Faults", "Learner", "LocalServer", "LoraLearner", "serve"]

# It computes with numpy and scipy, which are an extra.
__getattr__ = resolve_late(__name__, {"AdapterPricer": "learners.lora", "LoraLearner": "learners.lora"})
