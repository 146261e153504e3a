"""A web service that prices products, with a pricer that was saved: by `train --out`, or by `save`.

    pip install fastapi
    finetune-pricer train shop.csv --columns Name=title Desc=summary Price=price --out pricer/
    python examples/09_fastapi_service.py --pricer pricer/
    curl localhost:8000/price --json '{"title": "A brass lamp"}'

The model's local server is started within the service; a model of another service wants its key. Without
--pricer a model of made-up goods is trained, kept in a folder and asked once, and nothing is served.
"""

import argparse
import asyncio
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import httpx2
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, Field

from finetune_pricer import (
    Ensemble,
    FineTuneJob,
    Item,
    JsonlWriter,
    MadeUpCatalogue,
    Prediction,
    Predictor,
    aconnect,
    connect,
    load_pricer,
)
from finetune_pricer.aio import AsyncPredictor
from finetune_pricer.errors import DataError, PricerError, ServiceError
from finetune_pricer.evaluate import Baseline

log = logging.getLogger("pricing_service")


class Product(BaseModel):
    """What may be asked about; each text has a limit, since a service is paid for what it reads."""

    title: Annotated[str, Field(min_length=1, max_length=500)]
    summary: Annotated[str, Field(max_length=10_000)] = ""
    category: Annotated[str, Field(max_length=200)] = ""


Amount = Annotated[float | None, AfterValidator(lambda amount: None if amount is None else round(amount, 2))]


class Answer(BaseModel):
    """A price, or why the model names none; the range holds the true price as often as was calibrated."""

    price: Amount
    low: Amount
    high: Amount
    problem: str | None


def make_app(pricer: AsyncPredictor | Ensemble | Baseline, *, deadline: float = 10.0) -> FastAPI:
    app = FastAPI(title="Prices")

    # 1. A price within so many seconds, or an error. A question that is given up is cancelled.
    @app.post("/price")
    async def price(product: Product) -> Answer:
        item = Item(title=product.title, summary=product.summary, category=product.category)
        async with asyncio.timeout(deadline):
            found = await ask(pricer, item)
        return Answer(price=found.price, low=found.low, high=found.high, problem=found.error)

    # 2. Is this process well? Nobody is asked: a service that is away is no reason to start this one anew.
    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    # 3. What goes wrong, as callers can use it. The error itself is for the log, and holds no key.
    @app.exception_handler(ServiceError)
    async def say_away(_: Request, error: ServiceError) -> JSONResponse:
        log.error("the model's service: %s", error)
        told = {"detail": "the model's service does not answer as it should"}
        return JSONResponse(told, status_code=503, headers={"Retry-After": "30"})

    @app.exception_handler(TimeoutError)
    async def say_late(_: Request, __: TimeoutError) -> JSONResponse:
        told = {"detail": f"no price within {deadline:g} seconds"}
        return JSONResponse(told, status_code=503, headers={"Retry-After": "5"})

    @app.exception_handler(DataError)
    async def say_wrong(_: Request, error: DataError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=422)

    return app


async def ask(pricer: AsyncPredictor | Ensemble | Baseline, item: Item) -> Prediction:
    if isinstance(pricer, AsyncPredictor):
        return await pricer.predict(item)
    return await asyncio.to_thread(pricer.predict, item)  # which goes on to its end when it is given up


def load(folder: Path) -> AsyncPredictor | Ensemble | Baseline:
    """Load a saved pricer before anybody asks: what is wrong with it ends the service at its start."""
    server = folder / "server"  # of a model that `train` has trained on this machine
    is_local = server.is_dir()
    pricer = load_pricer(folder, connect("local", dir=server) if is_local else None)
    if isinstance(pricer, Predictor):  # a model alone is awaited: many questions at once need no threads
        return AsyncPredictor.load(folder, aconnect("local", dir=server) if is_local else None)
    return pricer


async def try_it(folder: Path) -> None:
    """Train a model of made-up goods, keep it, load it, and ask the service once, without a network."""
    train, calibrated_on, _ = MadeUpCatalogue(seed=42).splits(train=200, validation=50, test=1)
    client, training = connect("local", dir=folder / "server"), JsonlWriter().write(train, folder / "t.jsonl")
    job = FineTuneJob.create(client, training, model="pricer-base-mini", epochs=2).wait()
    job.predictor().calibrate(calibrated_on).save(folder)

    transport = httpx2.ASGITransport(make_app(load(folder)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://service") as browser:
        for method, path, body in (
            ("GET", "/health", None),
            ("POST", "/price", {"title": "Nordvik 27-inch computer monitor in aluminium, new."}),
            ("POST", "/price", {"title": ""}),
        ):
            answer = await browser.request(method, path, json=body)
            print(f"{method} {path} {body or ''}\n  {answer.status_code} {answer.text:.120}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Price products over HTTP.")
    parser.add_argument("--pricer", type=Path, help="a folder that `train --out` or `save` left")
    parser.add_argument("--deadline", type=float, default=10.0, help="seconds for an answer")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args(argv)
    if options.pricer:
        # On this machine only: put a proxy that knows your users before it.
        uvicorn.run(make_app(load(options.pricer), deadline=options.deadline), port=options.port)
    else:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(try_it(Path(folder)))


if __name__ == "__main__":
    try:
        main()
    except PricerError as error:
        raise SystemExit(f"error: {error}") from None
