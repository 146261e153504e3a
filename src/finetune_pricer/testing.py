"""A pytest plugin for those who use the package: services to test against, at no cost.

pytest finds it by itself. A test that names a fixture gets it; one that does not pays nothing for it.

```python
def test_a_lamp_has_a_price(canned_service):
    canned_service.answer = {"lamp": 20.00}
    with canned_service.client() as client:
        assert my_shop.price_of("A lamp of brass.", client) == 20.00
```

Where the fixtures are used, what the package keeps of purchases (`FINETUNE_PRICER_HOME`) lies in a folder of
the test run, and not in yours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ._canned_service import Answer, CannedService
    from .local import LocalServer

__all__ = ["Answer", "CannedService", "canned_service", "local_server", "pricer_home"]


def __getattr__(name: str) -> Any:
    # Loaded when a test uses it: pytest loads this file in every project in which the package is installed.
    if name not in {"Answer", "CannedService"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import _canned_service

    return getattr(_canned_service, name)


@pytest.fixture(scope="session")
def pricer_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that keeps what was bought in this test run, in the place of your own."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("finetune_pricer")
        patch.setenv("FINETUNE_PRICER_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def local_server(pricer_home: Path) -> Iterator[LocalServer]:  # noqa: ARG001 - it must be there first
    """A local server, for all tests that name it: it really trains and really answers.

    A job that one test has trained is given back to the next one that asks for the same. It needs the extra
    `local`.
    """
    from .local import LocalServer

    with LocalServer() as server:
        yield server


@pytest.fixture
def canned_service(pricer_home: Path) -> Iterator[CannedService]:  # noqa: ARG001 - it must be there first
    """A service that answers with what the test says, and forgets everything at the test's end."""
    from ._canned_service import CannedService

    with CannedService() as service:
        yield service
