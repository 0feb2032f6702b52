"""Documents made from the code, so that nothing is written twice; tests hold real events and files against them.

JSON Schema of each event type, AsyncAPI of the topics, OpenAPI of the HTTP side, JSON Schema of ``config.yaml``, and
tables for the documents (:mod:`gateway.schema.markdown`).
"""

from gateway.schema.configuration import configuration
from gateway.schema.events import asyncapi, event_schemas
from gateway.schema.openapi import openapi

__all__ = ["asyncapi", "configuration", "event_schemas", "openapi"]
