"""Alerts without Prometheus: what is wrong (``conditions``), when it is told (``rules``), how (``senders``).

A process with the admin port looks at the gateway every few seconds. For each receiver of the configuration a pure
state machine decides what is told; a task of its own sends it. Nothing here is waited for by a delivery.
"""
