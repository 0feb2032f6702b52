"""The parts of a subscriber in ``config.yaml``: retries, circuit breaker, certificates, fields, files."""

from __future__ import annotations

from pydantic import ByteSize, Field

from gateway.config.values import Duration, Float, Int, Section, Size, Texts


class RetrySettings(Section):
    """When to try again: exponential from ``first_delay_s`` up to ``max_delay_s``, with full jitter."""

    attempts: Int = Field(
        default=12, ge=1, le=1000, description="Attempts in all; then the event becomes a dead letter"
    )
    first_delay_s: Duration = Field(
        default=5.0, gt=0, description="Upper limit of the first wait; doubles with each attempt"
    )
    max_delay_s: Duration = Field(default=21600.0, gt=0, description="Longest wait")
    max_age: Duration | None = Field(
        default=None, gt=0, description="Failing events become dead letters after this time"
    )
    tiers: list[Duration] = Field(
        default_factory=lambda: [60.0, 600.0, 3600.0],
        max_length=8,
        description="Delays of the retry topics. A longer wait uses one of them, a shorter one blocks the key",
    )


class BreakerSettings(Section):
    """When a subscriber counts as down: its reader pauses, single events probe it, the log keeps the other events."""

    failure_rate: Float = Field(
        default=0.5, gt=0, le=1, description="The breaker opens at this share of failed attempts in the window"
    )
    window: Duration = Field(default=60.0, gt=0, description="Time over which attempts count")
    min_attempts: Int = Field(
        default=10, ge=1, description="With fewer attempts in the window, the breaker does not open"
    )
    first_open: Duration = Field(default=5.0, gt=0, description="Wait before the first probe; doubles with each probe")
    max_open: Duration = Field(default=8.0, gt=0, description="Longest wait between probes")


class ClientTls(Section):
    """TLS towards one subscriber."""

    ca_file: str | None = Field(
        default=None, description="Certificate authority of the subscriber (PEM); unset: the system's"
    )
    cert_file: str | None = Field(default=None, description="Client certificate (PEM), for mutual TLS")
    key_file: str | None = Field(
        default=None, description="Key of the client certificate (PEM); unset: it is in cert_file"
    )


class TransformSettings(Section):
    """Which fields of an event this subscriber gets, as paths such as ``data.raw``."""

    include: Texts = Field(
        default_factory=list, description="Paths to keep in addition to those that CloudEvents requires; none: all"
    )
    exclude: Texts = Field(default_factory=list, description="Paths to remove, such as data.raw")


class Rotation(Section):
    """When a file is put aside and a new one begun."""

    max_bytes: Size = Field(
        default=ByteSize(64 * 1024**2), ge=1024, description="Approximate size at which a new file is started"
    )
    keep: Int = Field(default=10, ge=1, le=10_000, description="Number of old files; the oldest is deleted")
