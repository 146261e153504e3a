"""From a tuned model to one that answers, where a service wants a step in between.

A deployment is asked for once. The service's own list says whether it is there; the request is noted in the
journal before it is sent, and where its answer is lost, the list is searched. A deployment of the two kinds
that are made here costs nothing while nobody asks, so that one which cannot be found is asked for again at
the next call.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable  # noqa: TC003 - a dataclass's field
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urlsplit

from .._arguments import require_client
from .._display import PrintsAsPage
from .._environment import read_settings
from .._escape import escape_text
from .._service.account import service_of
from .._service.flow import Flow, Pages, Work, ask, look_repeatedly, poll, run
from .._service.requests import delete_path, get_path, post_path
from ..errors import (
    AccessDenied,
    DataError,
    NotConfigured,
    NotFound,
    NotSupported,
    RequestRejected,
    ServiceUnavailable,
)
from ..providers.lookup import provider_of
from .purchase import DEPLOYMENT, send_once
from .queries import ask_checkpoints

if TYPE_CHECKING:
    from openai import OpenAI

    from .._service.requests import Answer, Request
    from ..providers.provider import Provider, Serving
    from .journal import Account, Entry
    from .records import JobRecord

_log = logging.getLogger("finetune_pricer")

DEPLOY_TIMEOUT = 1800.0
"""Seconds that a deployment may take."""
_LONGEST_DEPLOYMENT = 86_400.0  # seconds, where the user names no end
_MODELS, _MACHINES = "/v0/models", "/v0/dedicated_endpoints"  # of Nebius
_LORAS, _LORA_MACHINES = "loras", "selfserve/deployments"  # of Crusoe
_DEAD = frozenset({"error", "failed", "deleted", "deleting", "expired"})
# Of a deployment that was just asked for, the first answers may have no status, or not know it.
_MOST_SILENT = 12


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Deployment(PrintsAsPage):
    """A model that answers, or the steps after which it will."""

    name: str
    """What `undeploy` takes."""
    model: str | None
    """What a `Predictor` takes; None until the steps are done."""
    base_url: str | None = None
    """Where it answers, where that is another address than the client's; `job.predictor` asks there."""
    status: str | None = None
    """The service's word for its state; None where there is none."""
    steps: str = ""
    """What is left to do by hand."""
    idle_cost_per_hour: float | None = None
    """USD for an hour in which nobody asks; None where it is not known."""
    cost: str = ""
    """The same in words."""

    def __str__(self) -> str:
        cost = f"\nCost: {self.cost}" if self.cost else ""
        place = f" at {self.base_url}" if self.base_url else ""
        return escape_text(f"{self.steps or f'{self.model} answers{place}'}{cost}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A deployment in a service's list."""

    id: str
    """By which it is asked for and deleted."""
    model: str
    """By which it answers."""
    status: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Desk:
    """Where a service keeps its deployments, and how it words them."""

    service: str
    place: str
    rows_in: str
    id_in: str
    model_in: str
    reason_in: str
    ready: str
    under_way: frozenset[str] = frozenset()
    """The words for one that is coming; empty where every word that is not known means that."""

    def read(self, answer: Answer) -> _Row:
        status = answer.get("status")
        return _Row(
            id=str(answer.get(self.id_in) or ""),
            model=str(answer.get(self.model_in) or ""),
            status=status.lower() if isinstance(status, str) and status else None,
            reason=str(answer.get(self.reason_in) or ""),
        )

    def is_dead(self, row: _Row) -> bool:
        if row.status is None or row.status == self.ready:
            return False
        return row.status in _DEAD or bool(self.under_way and row.status not in self.under_way)

    def list_all(self) -> Flow[list[Answer]]:
        if self.rows_in == "data":
            return (yield from Pages(partial(_request_page, self.place)).read_all())
        answer = yield from ask(get_path(self.place))
        found = answer.get(self.rows_in) or answer.get("data")
        return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []

    def look(self, id_: str) -> Flow[_Row]:
        return self.read((yield from ask(get_path(self._place_of(id_)))))

    def delete(self, id_: str) -> Flow[None]:
        with suppress(NotFound):  # gone already, which is what was wanted
            yield from ask(delete_path(self._place_of(id_)))

    def _place_of(self, id_: str) -> str:
        # The slash in a name such as `meta-llama/...-LoRa:shop-JuNN` stays as it is.
        return f"{self.place}/{quote(id_, safe='/:')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What is to be deployed: one checkpoint of one job."""

    desk: _Desk
    what: str
    body: dict[str, Any]
    is_mine: Callable[[Answer], bool]

    def find(self) -> Flow[_Row | None]:
        """Return the deployment in the service's list that is there or coming; None where there is none."""
        for answer in (yield from self.desk.list_all()):
            row = self.desk.read(answer)
            if row.id and self.is_mine(answer) and not self.desk.is_dead(row):
                return row
        return None


def deploy(
    account: Account,
    job: JobRecord,
    provider: Provider,
    *,
    service: str,
    name: str | None,
    timeout: float | None,
) -> Flow[Deployment]:
    """Make a tuned model answer, or say how."""
    serving, name = provider.serving, name or _usual_name(job)
    facts = _facts_of(serving)
    _say_cost(name, provider)
    if serving.how == "at_once":
        return Deployment(name=name, model=job.fine_tuned_model, **facts)
    if serving.how == "by_hand":
        steps = serving.describe_steps(job.model, model=job.fine_tuned_model, name=name)
        return Deployment(name=name, model=None, steps=steps, **facts)
    order = yield from _place_order(job, provider, service=service, name=name)
    row = yield from _deploy_once(account, order)
    row = yield from _wait_until_ready(order.desk, row, timeout)
    return Deployment(name=row.id, model=row.model, base_url=serving.answers_at, status=row.status, **facts)


def _say_cost(name: str, provider: Provider) -> None:
    if provider.serving.cost:
        # Said before it is done, and where nobody has set up logging, too.
        _log.warning(
            "deploying %r at %r costs %s (read on %s: %s)",
            name,
            provider.name,
            provider.serving.cost,
            provider.as_of,
            provider.serving.source,
        )


def _facts_of(serving: Serving) -> dict[str, Any]:
    return {"idle_cost_per_hour": serving.idle_cost_per_hour, "cost": serving.cost}


def _usual_name(job: JobRecord) -> str:
    return f"pricer-{job.id.rpartition('-')[2][-8:].lower()}"


def _place_order(job: JobRecord, provider: Provider, *, service: str, name: str) -> Flow[_Order]:
    desk = _find_desk(provider, service)
    checkpoints = yield from ask_checkpoints(job.id, provider)
    if provider.serving.how == "loras":
        model = job.fine_tuned_model or next(
            (each.model for each in reversed(checkpoints) if each.model), None
        )
        if model is None:
            raise NotFound(f"job {job.id!r} names no model that could be deployed")
        return _Order(
            desk=desk,
            what=model,
            body={"model_id": model},
            is_mine=lambda row: row.get("model_id") == model,
        )
    if not checkpoints:
        raise NotFound(f"job {job.id!r} has no checkpoint that could be deployed")
    bases, checkpoint = provider.serving.bases, checkpoints[-1].id
    if bases and job.model not in bases:
        _log.warning(
            "%r is known to serve tuned models of %s, and %r is none of them: it may refuse. Then give it a "
            "machine of its own in the console, or download the checkpoint's files",
            provider.name,
            ", ".join(bases),
            job.model,
        )
    body = {
        "name": name,
        "base_model": bases.get(job.model or "", job.model),
        "source": f"{job.id}:{checkpoint}",
        "description": f"fine-tuned by job {job.id}",
    }
    return _Order(
        desk=desk,
        what=f"{job.id}:{checkpoint}",
        body=body,
        is_mine=lambda row: _is_of_job(row, job, name) and row.get("checkpoint_id") in {None, "", checkpoint},
    )


def _is_of_job(row: Answer, job: JobRecord, name: str) -> bool:
    """Whether a custom model was made of a job: by what the row says, else by its name."""
    if row.get("job_id"):
        return bool(row["job_id"] == job.id)
    return _is_named(str(row.get("name") or ""), name)


def _is_named(served: str, name: str) -> bool:
    # Nebius makes `meta-llama/...-LoRa:shop-JuNN` of `shop`.
    return served == name or re.fullmatch(rf".+:{re.escape(name)}(-\w{{2,8}})?", served) is not None


def _find_desk(provider: Provider, service: str) -> _Desk:
    """Return where a service keeps its deployments.

    Raises:
        NotConfigured: The service keeps them by project, and no project is named.
        DataError: They are at another address, and the client's key is not for that.
    """
    if provider.serving.how == "custom_models":
        return _Desk(
            service=provider.name,
            place=_MODELS,
            rows_in="data",
            id_in="name",
            model_in="name",
            reason_in="status_reason",
            ready="active",
        )
    return _Desk(
        service=provider.name,
        place=f"{_find_control_plane(provider, service)}/{_LORAS}",
        rows_in="lora_adapters",
        id_in="id",
        model_in="model_id",
        reason_in="last_error",
        ready="ready",
        under_way=frozenset({"pending", "downloading", "loading"}),
    )


def _find_control_plane(provider: Provider, service: str) -> str:
    place, variable = provider.serving.deploys_at, provider.serving.project_variable
    if not is_at_home(provider, service):
        raise DataError(
            f"{provider.name!r} deploys at {urlsplit(place).hostname}, and the client is at {service}: its "
            f"key is not sent to another address. Hand in a client that connect({provider.name!r}) made"
        )
    project = read_settings().get(variable) if variable else ""
    if project is None:
        raise NotConfigured(
            f"{provider.name!r} keeps deployments by project: set {variable} in the environment or in .env; "
            "its console shows the project's id"
        )
    return place.format(project=quote(project, safe=""))


def is_at_home(provider: Provider, service: str) -> bool:
    """Whether a client's address is the service's own, so that its key may go to the other hosts of it."""
    host = urlsplit(service).hostname or ""
    return any(fnmatchcase(host, pattern) for pattern in provider.hosts)


def _request_page(place: str, after: str | None) -> Request:
    return get_path(place if after is None else f"{place}?after={quote(after, safe='')}")


def _deploy_once(account: Account, order: _Order) -> Flow[_Row]:
    """Return the deployment of an order: the one that is there or coming, else a new one."""
    with (yield from account.lock(DEPLOYMENT, order.what)):
        row = yield from order.find()
        if row is None:
            row = yield from _settle_open(account, order)
        if row is not None:
            _log.info("%r is deployed already, as %r (%s)", order.what, row.id, row.status)
            return row
        return (
            yield from send_once(
                account,
                DEPLOYMENT,
                order.what,
                send=partial(_send_order, order),
                find=lambda _: order.find(),
                may_repeat=False,
            )
        )


def _settle_open(account: Account, order: _Order) -> Flow[_Row | None]:
    """Look for what an earlier request made whose answer never came; it is in the list late, or nowhere."""
    entries: list[Entry] = yield Work(partial(account.find_all, DEPLOYMENT, order.what))
    still_open = [entry for entry in entries if entry.is_open]
    if not still_open:
        return None
    row = yield from look_repeatedly(order.find)
    for entry in still_open:
        yield Work(partial(account.forget, entry))
    return row


def _send_order(order: _Order, _: Entry) -> Flow[_Row]:
    row = order.desk.read((yield from ask(post_path(order.desk.place, order.body))))
    if row.id:
        return replace(row, model=row.model or order.what)
    found = yield from look_repeatedly(order.find)
    if found is None:
        raise ServiceUnavailable(
            f"{order.desk.service!r} took the deployment of {order.what!r} without naming it, and does not "
            "list it"
        )
    return found


def _wait_until_ready(desk: _Desk, row: _Row, timeout: float | None) -> Flow[_Row]:
    timeout = _LONGEST_DEPLOYMENT if timeout is None else timeout
    silent, model = 0, row.model

    def look() -> Flow[_Row]:
        nonlocal silent
        try:
            found = yield from desk.look(row.id)
        except NotFound:
            found = replace(row, status=None)
        silent = silent + 1 if found.status is None else 0
        if silent >= _MOST_SILENT:
            raise NotFound(
                f"{desk.service!r} took the deployment {row.id!r} and says nothing of its state; "
                + _how_to_go_on(row)
            )
        return replace(found, id=row.id, model=found.model or model)

    def give_up() -> ServiceUnavailable:
        return ServiceUnavailable(
            f"deployment {row.id!r} is not ready at {desk.service!r} after {timeout:g} s; "
            + _how_to_go_on(row)
        )

    if row.status != desk.ready:
        row = yield from poll(
            look,
            done=lambda found: found.status == desk.ready or desk.is_dead(found),
            timeout=timeout,
            late=give_up,
        )
    if desk.is_dead(row):
        _refuse(desk, row)
    return row


def _how_to_go_on(row: _Row) -> str:
    return (
        "deploy() again goes on waiting for the same one and makes no other; undeploy() takes it down; its "
        f"state stands in the service's console, under {row.id!r}"
    )


def _refuse(desk: _Desk, row: _Row) -> NoReturn:
    raise RequestRejected(
        f"{desk.service!r} could not deploy {row.id!r}: {row.reason or row.status}; undeploy() removes it, "
        "and deploy() tries anew"
    )


def undeploy(job: JobRecord, provider: Provider, *, service: str, name: str | None) -> Flow[list[str]]:
    """Take down all that is deployed of a job, or what has a name; return the names of what was there."""
    if provider.serving.how == "at_once":
        return []
    if provider.serving.how == "by_hand":
        raise NotSupported(
            f"take {name or _usual_name(job)!r} down where you deployed it: {provider.name!r} has a control "
            "plane of its own"
        )
    desk = _find_desk(provider, service)
    models = {job.fine_tuned_model} if provider.serving.how == "loras" else set[str | None]()
    if provider.serving.how == "loras" and name is None:
        models |= {each.model for each in (yield from ask_checkpoints(job.id, provider))}
    found = []
    for answer in (yield from desk.list_all()):
        row = desk.read(answer)
        if name is not None:
            is_wanted = name in {row.id, row.model} or _is_named(row.model, name)
        elif provider.serving.how == "loras":
            is_wanted = row.model in models - {None, ""}
        else:
            is_wanted = _is_of_job(answer, job, _usual_name(job))
        if row.id and is_wanted:
            found.append(row.id)
    for id_ in found or [name or ""]:
        if id_:
            yield from desk.delete(id_)
    return found


def deployments(client: OpenAI, *, provider: str | Provider | None = None) -> list[Deployment]:
    """Return what is deployed at a service now, by anybody of this key's project, and what it costs an hour.

    Tuned models, and machines by the hour where the service lists them to this key. Nothing where tuned
    models answer by themselves.

    Raises:
        NotSupported: The service does not show its deployments to this key.
        NotConfigured: The service wants to know a project, and none is named.
        DataError: The client is not at the service's own address, and its key would go there.
        ServiceError: The service refuses or does not answer.
    """
    require_client(client)
    known = provider_of(client, provider)
    return run(client, list_deployments(known, service=service_of(client)), time.sleep)


def list_deployments(provider: Provider, *, service: str) -> Flow[list[Deployment]]:
    """Return what is deployed at a service now: tuned models, and machines where it lists them."""
    serving = provider.serving
    if serving.how == "at_once":
        return []
    if serving.how == "by_hand":
        raise NotSupported(
            f"{provider.name!r} lists its deployments in a control plane of its own, not to this key: look "
            "into its console"
        )
    desk, facts = _find_desk(provider, service), _facts_of(serving)
    found = []
    for answer in (yield from desk.list_all()):
        row = desk.read(answer)
        if row.id and not desk.is_dead(row):
            found.append(
                Deployment(
                    name=row.id, model=row.model, base_url=serving.answers_at, status=row.status, **facts
                )
            )
    return found + (yield from _list_machines(desk))


def _list_machines(desk: _Desk) -> Flow[list[Deployment]]:
    """Return the machines that are rented by the hour, where the service lists them to this key."""
    place = _MACHINES if desk.place == _MODELS else desk.place.removesuffix(_LORAS) + _LORA_MACHINES
    try:
        answer = yield from ask(get_path(place))
    except (NotFound, NotSupported, AccessDenied):  # an offer of its own, which not every account has
        return []
    rows = answer.get("deployments") or answer.get("data")
    found = []
    for row in rows if isinstance(rows, list) else []:
        status = str(row.get("status") or "").lower() or None
        if status in _DEAD:
            continue
        name = row.get("deployment_name") or row.get("name") or row.get("id")
        cost = _read_dollars(row.get("hourly_cost", row.get("price_per_hour")))
        found.append(
            Deployment(
                name=str(name),
                model=str(row.get("routing_key") or name),
                status=status,
                idle_cost_per_hour=cost,
                cost="machines by the hour, also while nobody asks; take it down in the console",
            )
        )
    return found


def _read_dollars(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
