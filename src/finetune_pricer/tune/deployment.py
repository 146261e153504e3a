"""From a tuned model to one that answers, where a service wants a step in between."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .._escape import escape_text
from .._service.flow import Flow, ask, poll
from .._service.requests import delete_path, get_path, post_path
from ..errors import NotFound, NotSupported, RequestRejected, ServiceUnavailable
from .queries import ask_checkpoints

if TYPE_CHECKING:
    from ..providers.provider import Provider
    from .records import JobRecord

_log = logging.getLogger("finetune_pricer")

_MODELS = "/v0/models"
_DEAD = frozenset({"error", "deleted", "failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A model that answers, or the steps after which it will."""

    name: str
    """What `undeploy` takes."""
    model: str | None
    """What a `Predictor` takes; None until the steps are done."""
    steps: str = ""
    """What is left to do by hand."""
    idle_cost_per_hour: float | None = None
    """USD for an hour in which nobody asks; None where it is not known."""
    cost: str = ""
    """The same in words."""

    def __str__(self) -> str:
        cost = f"\nCost: {self.cost}" if self.cost else ""
        return escape_text(f"{self.steps or f'{self.model} answers'}{cost}")


def deploy(
    job: JobRecord, provider: Provider, *, name: str | None, timeout: float | None
) -> Flow[Deployment]:
    """Make a tuned model answer, or say how."""
    serving = provider.serving
    name = name or _usual_name(job)
    facts: dict[str, Any] = {"idle_cost_per_hour": serving.idle_cost_per_hour, "cost": serving.cost}
    if serving.cost:
        # Said before it is done, and where nobody has set up logging, too.
        _log.warning(
            "deploying %r at %r costs %s (read on %s: %s)",
            name,
            provider.name,
            serving.cost,
            provider.as_of,
            serving.source,
        )
    if serving.how == "at_once":
        return Deployment(name=name, model=job.fine_tuned_model, **facts)
    if serving.how == "by_hand":
        steps = serving.describe_steps(job.model, model=job.fine_tuned_model, name=name)
        return Deployment(name=name, model=None, steps=steps, **facts)
    served = yield from _serve_custom_model(job, provider, name, timeout)
    return Deployment(name=name, model=served, **facts)


def _serve_custom_model(job: JobRecord, provider: Provider, name: str, timeout: float | None) -> Flow[str]:
    bases = provider.serving.bases
    if bases and job.model not in bases:
        raise NotSupported(
            f"{provider.name!r} serves tuned models of {', '.join(bases)} only, not of {job.model!r}: "
            "give it a machine of its own in the console, or download the checkpoint's files"
        )
    place = f"{_MODELS}/{quote(name, safe='')}"
    try:
        yield from ask(get_path(place))
    except NotFound:
        checkpoints = yield from ask_checkpoints(job.id, provider)
        if not checkpoints:
            raise NotFound(f"job {job.id!r} has no checkpoint that could be deployed") from None
        body = {
            "name": name,
            "base_model": bases.get(job.model or "", job.model),
            "source": f"{job.id}:{checkpoints[-1].id}",
            "description": f"fine-tuned by job {job.id}",
        }
        yield from ask(post_path(_MODELS, body))
    state = yield from poll(
        lambda: ask(get_path(place)),
        done=lambda answer: answer.get("status") == "active" or answer.get("status") in _DEAD,
        timeout=timeout,
        late=lambda: ServiceUnavailable(
            f"model {name!r} is not active after {timeout:g} s; call deploy again later"
        ),
    )
    if state.get("status") in _DEAD:
        reason = state.get("status_reason") or state.get("status")
        raise RequestRejected(f"{provider.name!r} could not deploy {name!r}: {reason}")
    return str(state.get("model_name") or state.get("id") or state.get("name") or name)


def _usual_name(job: JobRecord) -> str:
    return f"pricer-{job.id.rpartition('-')[2][-8:].lower()}"


def undeploy(job: JobRecord, provider: Provider, *, name: str | None) -> Flow[None]:
    """Take a model down; nothing happens where it is down already."""
    name = name or _usual_name(job)
    if provider.serving.how == "at_once":
        return
    if provider.serving.how == "by_hand":
        raise NotSupported(
            f"take {name!r} down where you deployed it: {provider.name!r} has a control plane of its own"
        )
    try:
        yield from ask(delete_path(f"{_MODELS}/{quote(name, safe='')}"))
    except NotFound:
        return
