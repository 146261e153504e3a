"""Models that were trained elsewhere, which a server offers beside its own: `NAME=BASE:PLACE`."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from ..errors import DataError
from .records import StoredModel, now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .database import Database
    from .learners import Learner

log: logging.Logger = logging.getLogger("finetune_pricer.local")


def check_adapters(bases: Mapping[str, Learner], adapters: Mapping[str, str]) -> None:
    """Raise `DataError` where an adapter names no base, or one that is not declared, or has a base's name."""
    for name, said in adapters.items():
        base, colon, place = said.partition(":")
        if not (name and colon and base and place):
            raise DataError(f"the adapter {name!r:.60} is {said!r:.60}; write BASE:FOLDER or BASE:HUB_ID")
        if base not in bases:
            raise DataError(
                f"the adapter {name!r:.60} belongs to the base {base!r:.60}, which is not declared; declare "
                f"it with --base {base}=..."
            )
        if name in bases:
            raise DataError(f"{name!r:.60} is a base model; give the adapter another name")


def adopt_adapters(database: Database, bases: Mapping[str, Learner], adapters: Mapping[str, str]) -> None:
    """Keep models that were trained elsewhere under the given names, in place of older ones.

    Raises:
        PricerError: There is no such model, its base is another, or a job has made a model of this name.
    """
    for name, said in adapters.items():
        base, _, place = said.partition(":")
        files = bases[base].adopt(place)
        before = database.find_model(name)
        if before is not None and before.job:
            raise DataError(f"{name!r:.60} is the model of job {before.job}; give the adapter another name")
        with contextlib.ExitStack() as held:
            hashes = {}
            for file, path in files.items():
                content = held.enter_context(path.open("rb"))
                hashes[file] = held.enter_context(database.keep_blob(content)).sha256
            if before is not None and (before.base, before.files) == (base, hashes):
                continue
            with database.transaction():
                if before is not None:
                    database.delete_model(before)
                model = StoredModel(id=name, base=base, job="", created_at=now(), files=hashes)
                database.add_model(model)
        log.info("offering the model %s of %s, from %s", name, base, place)
