"""Observations over HTTP into PostgreSQL, as one writes it without Tidegate: FastAPI, pydantic, asyncpg.

It commits before it answers. It knows no tokens, keeps no invalid records, and answers 500 while PostgreSQL is away.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from operator import attrgetter

import asyncpg
from fastapi import FastAPI
from pydantic import BaseModel


class Observation(BaseModel):
    origin: str
    year: int
    month: int
    day: int
    hour: int
    temp: float | None
    dewp: float | None
    humid: float | None
    wind_dir: int | None
    wind_speed: float | None
    wind_gust: float | None
    precip: float | None
    pressure: float | None
    visib: float | None
    time_hour: datetime


COLUMNS = tuple(Observation.model_fields)
row = attrgetter(*COLUMNS)
# asyncpg prepares it once on each connection.
INSERT = "insert into observations ({}) values ({})".format(
    ", ".join(COLUMNS), ", ".join(f"${number}" for number in range(1, len(COLUMNS) + 1))
)
CONNECTIONS = int(os.environ.get("DATABASE_CONNECTIONS", "10"))


async def keep(_: asyncpg.Connection) -> None:
    """Nothing here changes a session, so a connection goes back into the pool without a round trip that resets it."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=CONNECTIONS, max_size=CONNECTIONS, reset=keep
    ) as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/observations", status_code=201)
async def add(observation: Observation) -> dict[str, int]:
    await app.state.pool.execute(INSERT, *row(observation))
    return {"accepted": 1}


@app.post("/observations/bulk", status_code=201)
async def add_many(observations: list[Observation]) -> dict[str, int]:
    await app.state.pool.copy_records_to_table(
        "observations", records=map(row, observations), columns=COLUMNS
    )
    return {"accepted": len(observations)}
