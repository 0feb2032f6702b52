"""Alerts without Prometheus: problems and when they are reported (``rules``), and how (``senders``).

A process with the admin port looks at the gateway every few seconds. For each receiver of the configuration a pure
state machine decides what is reported; a task of its own sends it. No delivery waits for any of this.
"""
