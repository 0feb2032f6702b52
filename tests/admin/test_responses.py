"""Errors become answers of the admin port: a status that says what to do next, and a sentence."""

from __future__ import annotations

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.admin.parts import NotHere
from gateway.admin.responses import BadRequest, NotFound, respond
from gateway.errors import Broken, ConfigError, Forbidden, NotNow, Transient, Unauthenticated
from gateway.log.kafka.errors import KafkaAway


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (BadRequest("limit: a number is needed"), 400),
        (Unauthenticated("the admin token is needed"), 401),
        (Forbidden("requests from other sites are refused"), 403),
        (NotFound("no such event is kept"), 404),
        (NotHere("this process delivers nothing"), 409),
        (ConfigError(["subscribers[0].filter: unknown"]), 409),
        (Broken("a fault of ours"), 500),
        (NotNow("the subscribers have not started yet"), 503),
        (Transient("the index cannot be read now"), 503),
        (KafkaAway("Kafka: Unable connect"), 503),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
async def test_an_error_has_the_status_that_says_what_to_do(raised: Exception, status: int) -> None:
    """4xx: ask otherwise. 503: ask again. 500: a person is needed."""

    async def handler(_: web.Request) -> web.Response:
        raise raised

    answer = await respond(make_mocked_request("GET", "/api/anything"), handler)
    assert isinstance(answer, web.Response)
    assert answer.status == status
    assert isinstance(answer.body, bytes)
    assert orjson.loads(answer.body) == {"error": str(raised)}
