"""Items -> a training file that can be trusted.

```text
audit      what is wrong with the items, before anything is written
leakage    prices that stand in the texts
jsonl      items -> a training file
check      what is wrong with a training file, whoever wrote it, and a corrected copy
rules      what can be wrong with a line, and its fix
tokens     how many tokens a training file has
synthetic  a made-up catalogue whose best possible error is known
```
"""

from .audit import AuditReport, Finding, Place, audit
from .check import Correction, JsonlProblem, JsonlReport, check_jsonl
from .jsonl import JsonlWriter, TrainingFile
from .synthetic import MadeUpCatalogue
from .tokens import TokenCount, count_tokens

__all__ = [
    "AuditReport",
    "Correction",
    "Finding",
    "JsonlProblem",
    "JsonlReport",
    "JsonlWriter",
    "MadeUpCatalogue",
    "Place",
    "TokenCount",
    "TrainingFile",
    "audit",
    "check_jsonl",
    "count_tokens",
]
