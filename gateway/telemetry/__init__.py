"""Telemetry of the gateway: logs (:mod:`.logs`) and metrics (:mod:`.metrics`)."""
