"""A job of the Hugging Face Hub, billed by the minute; the folder is in a bucket, which outlives it.

An exposed port of a job is either behind the Hub's own check, which wants a Hub token in the one header that
also carries our key, or public. Ours is public, and our key guards it: that key opens this server and nothing
else, while a Hub token in every client would open whatever its owner may do at the Hub, and would reach a
server that has no use for it. So neither secret is ever sent to where the other belongs, clients are the same
as anywhere, and a browser can open the page of the server.
"""

from __future__ import annotations

import inspect
import re
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .._environment import read_settings
from .._lazy import compile_late
from ..errors import (
    AccessDenied,
    DataError,
    MissingExtra,
    NotConfigured,
    NotFound,
    PricerError,
    RequestRejected,
    ServiceUnavailable,
)
from .target import KEY_VARIABLE, MOUNT, PORT, Instance, Machine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .launch_plan import LaunchPlan
    from .server_record import ServerRecord

_NAME, _SETTINGS = "finetune-pricer", "finetune-pricer-settings"  # labels
_LIVE = ("RUNNING", "SCHEDULING")
_PORT_PER_HOUR = 0.01
"""Dollars for exposed ports, beside the machine's own price.

Source: https://huggingface.co/docs/hub/jobs-pricing, read 2026-11-27.
"""
_BUCKET = compile_late(r"(?:[\w.-]+/)?[\w.-]+", re.ASCII)
_HOURS = {"second": 3_600, "minute": 60, "hour": 1}
"""How many of what a price is for go into an hour."""
_SIZES = ("", "x1", "-small", "-large")
"""How the smallest machine with a GPU is named: `h200`, `l4x1`, `t4-small`, `a100-large`."""


class HfJobs:
    """Runs the server as a job."""

    keeps = "bucket"
    longest_pause = 5.0

    def find_machine(self, gpu: str | None) -> Machine:
        """Return the smallest machine that has the GPU, and its price by the minute times sixty.

        Raises:
            DataError: The Hub has no such GPU.
            AccessDenied: The Hub does not accept the token.
        """
        try:
            with _translating("ask what machines cost"):
                rows = _connect().list_jobs_hardware()
        except ServiceUnavailable as error:
            note = f"what it costs is not known: {error}"
            return Machine(_choose_flavor(gpu, _known_flavors()), None, note)
        prices = {row.name: row for row in rows}
        chosen = prices[_choose_flavor(gpu, prices)]
        if chosen.unit_label not in _HOURS:
            raise ServiceUnavailable(f"the Hub names the price of {chosen.name} by the {chosen.unit_label!r}")
        per_unit = chosen.unit_cost_micro_usd / 1_000_000
        return Machine(chosen.name, per_unit * _HOURS[chosen.unit_label] + _PORT_PER_HOUR)

    def find_place(self, name: str, given: str | None) -> str:
        """Return a bucket, of the token's owner where it names none."""
        bucket = (given or f"{_NAME}-{name}").removeprefix("hf://buckets/")
        if not _BUCKET.fullmatch(bucket):
            raise DataError(f"bucket must be a bucket of the Hub, such as 'me/pricer', not {given!r}")
        return bucket

    def find(self, name: str, record: ServerRecord) -> Instance | None:  # noqa: ARG002  labels know them
        """Return the oldest job of that label which runs or is scheduled, wherever it was started from."""
        return next(iter(_list_live(_connect(), name)), None)

    def start(self, plan: LaunchPlan, key: str, record: ServerRecord) -> Instance:
        """Start a job, with its bucket made private where there is none.

        Raises:
            DataError: The bucket is public.
            AccessDenied: The token may not start jobs, or its owner has no credit.
            ServiceUnavailable: The Hub does not answer; a job may have been started all the same.
        """
        api = _connect()
        bucket = _require_private_bucket(api, plan.place)
        record.write({"settings": plan.settings})
        try:
            job = _run_job(api, plan, bucket, key)
        except ServiceUnavailable:
            # The answer may have been lost, and the job be running.
            if (found := self.find(plan.name, record)) is not None:
                return replace(found, is_new=True)
            raise
        mine = replace(_describe(job), is_new=True)
        try:
            record.write({"id": job.id, "settings": plan.settings})
            return _settle(api, plan.name, mine)
        except ServiceUnavailable:  # nobody can say at the moment whether there is an older one
            return mine
        except BaseException:
            with suppress(PricerError):
                _cancel(api, job.id)
            raise

    def stop(self, name: str, record: ServerRecord) -> None:  # noqa: ARG002  labels know them
        """Cancel every job of that label that runs or is scheduled, and with it the bill."""
        api = _connect()
        for instance in _list_live(api, name):
            _cancel(api, instance.id)

    def explain_end(self, instance: Instance, record: ServerRecord) -> str:  # noqa: ARG002
        """Return what the Hub says of it, and where its log is."""
        with _translating(f"look at the job {instance.id}"):
            status = _connect().inspect_job(job_id=instance.id).status
        said = f" ({status.message})" if status.message else ""
        return f"the Hub says {status.stage}{said}; its log: `{instance.log}`"


def _connect() -> Any:
    from huggingface_hub import HfApi

    if "expose_public" not in inspect.signature(getattr(HfApi, "run_job", lambda: None)).parameters:
        raise MissingExtra(
            "jobs with a public port need a newer huggingface_hub: pip install 'huggingface_hub>=2.4'"
        )
    return HfApi(token=read_settings().get("HF_TOKEN"))


def _known_flavors() -> list[str]:
    """Return the machines that the installed huggingface_hub knows, for when the Hub cannot be asked."""
    from huggingface_hub import JobHardware

    return [flavor.value for flavor in JobHardware]


def _choose_flavor(gpu: str | None, flavors: Iterable[str]) -> str:
    if gpu is None:
        return "cpu-basic"
    known = list(flavors)
    wanted = gpu.strip().lower().replace(" ", "-").replace("_", "-")
    for size in _SIZES:
        if f"{wanted}{size}" in known:
            return f"{wanted}{size}"
    raise DataError(f"HF Jobs has no GPU {gpu!r}; it has {', '.join(known)}")


def _require_private_bucket(api: Any, place: str) -> str:
    with _translating(f"make the bucket {place!r}"):
        bucket = str(api.create_bucket(place, private=True, exist_ok=True).bucket_id)
        is_private = api.bucket_info(bucket).private
    if not is_private:
        raise DataError(
            f"the bucket {bucket!r} is public, so that everybody could read your products and models; "
            "nothing was started: make it private, or name another"
        )
    return bucket


def _run_job(api: Any, plan: LaunchPlan, bucket: str, key: str) -> Any:
    from huggingface_hub import Volume

    undo = f"`finetune-pricer launch --on hf-jobs --name {plan.name} --stop` ends it"
    with _translating("start a job", undo):
        return api.run_job(
            image=plan.image,
            command=plan.container_command(),
            secrets={KEY_VARIABLE: key},
            flavor=plan.machine,
            timeout=f"{int(plan.limit)}s",
            name=f"{_NAME}-{plan.name}",
            labels={_NAME: plan.name, _SETTINGS: plan.settings},
            volumes=[Volume(type="bucket", source=bucket, mount_path=MOUNT)],
            expose_public=[PORT],
        )


def _settle(api: Any, name: str, mine: Instance) -> Instance:
    """Return the job that counts: of two that were started at once, the older; the other is cancelled."""
    live = _list_live(api, name)
    if mine.id not in {each.id for each in live} or live[0].id == mine.id:
        return mine
    _cancel(api, mine.id)
    return live[0]


def _cancel(api: Any, job_id: str) -> None:
    with _translating(f"cancel the job {job_id}"):
        api.cancel_job(job_id=job_id)


def _list_live(api: Any, name: str) -> list[Instance]:
    """Return jobs of that label that run or are scheduled, the oldest first."""
    with _translating("list jobs"):
        jobs = list(api.list_jobs(labels={_NAME: name}, status=list(_LIVE)))
    # Asked again of each: were the question for labels ever ignored, strangers' jobs would be cancelled.
    jobs = [job for job in jobs if (job.labels or {}).get(_NAME) == name and job.status.stage in _LIVE]
    return [_describe(job) for job in sorted(jobs, key=lambda job: (str(job.created_at), job.id))]


def _describe(job: Any) -> Instance:
    urls = job.status.expose_urls or [f"https://{job.id}--{PORT}.hf.jobs"]
    return Instance(
        id=job.id,
        url=f"{urls[0].rstrip('/')}/v1",
        settings=str((job.labels or {}).get(_SETTINGS)),
        log=f"hf jobs logs {job.id}",
    )


@contextmanager
def _translating(doing: str, unsure: str = "") -> Iterator[None]:
    """Raise errors of the Hub as ours; `unsure` is what to do where nobody knows whether it took effect."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    hint = f"; if it was started after all, {unsure}" if unsure else ""
    try:
        yield
    except LocalTokenNotFoundError:
        raise NotConfigured(
            f"cannot {doing}: no Hub token is set; run `hf auth login`, or set HF_TOKEN to a token that may "
            "start jobs"
        ) from None
    except HfHubHTTPError as error:
        raise _explain(error, doing, hint) from error
    except OfflineModeIsEnabled:
        raise ServiceUnavailable(f"cannot {doing}: HF_HUB_OFFLINE is set", reached=False) from None
    except (httpx2.HTTPError, OSError) as error:
        raise ServiceUnavailable(
            f"cannot {doing}: the Hub does not answer ({type(error).__name__}){hint}"
        ) from error


def _explain(error: Any, doing: str, hint: str) -> PricerError:
    status = error.response.status_code
    said = str(getattr(error, "server_message", None) or error).strip().partition("\n")[0]
    message = f"cannot {doing}: {said} (HTTP {status})"
    if status == 402:
        return AccessDenied(f"{message}; the account has no credit", status=status, out_of_credit=True)
    if status in {401, 403}:
        return AccessDenied(
            f"{message}; take a Hub token that may start jobs and write buckets", status=status
        )
    if status == 404:
        return NotFound(message, status=status)
    if status == 429 or status >= 500:
        return ServiceUnavailable(f"{message}{hint}; try again later", status=status)
    return RequestRejected(message, status=status)
