"""This gateway beside its peers: ``python -m tests.benchmarks peers``; see :mod:`tests.benchmarks.peers.compare`."""

from __future__ import annotations

from typing import Final

BARE: Final = "bare aiohttp, stores nothing"
RUN: Final = "this gateway, `run` embedded"
SERVE: Final = "this gateway, `serve` + Kafka"
AIOHTTP: Final = "by hand: aiohttp + aiokafka"
FASTAPI: Final = "by hand: FastAPI + uvicorn + aiokafka"
GRANIAN_AIOKAFKA: Final = "by hand: granian (RSGI) + aiokafka"
GRANIAN_CONFLUENT: Final = "by hand: granian (RSGI) + confluent-kafka"
GO: Final = "by hand: Go net/http + franz-go"
RUST: Final = "by hand: Rust axum + rdkafka"
BENTO: Final = "Bento, no buffer"
VECTOR: Final = "Vector, no buffer"
VECTOR_DISK: Final = "Vector, disk buffer"
#: The sides of a run of a few seconds.
SHORT: Final = (BARE, RUN, AIOHTTP)
