"""Moved to :mod:`gateway.clock`; this name stays until all branches of the change are together."""

from __future__ import annotations

from gateway.clock import Clock, SystemClock, Timer, sleep

__all__ = ["Clock", "SystemClock", "Timer", "sleep"]
