"""``python -m tests.callbacks.record``: writes ``expected.json`` for samples that have none. Read it before you commit.

A changed decoder is shown by the failing sample; delete its ``expected.json`` and record it again.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from gateway.callbacks import CALLBACKS
from gateway.errors import CallbackRejected
from tests.callbacks.samples import FOLDER, Sample, all_samples


def expectation(sample: Sample) -> dict[str, Any]:
    """What the sample becomes now, ``raw`` only where one request became several events."""
    try:
        decoded = CALLBACKS[sample.callback].decode(sample.request, sample.context)
    except CallbackRejected as exc:
        return {"rejected": {"reason": exc.reason, "field": exc.field}}
    events = [orjson.loads(event.to_json()) for event in decoded.events]
    if len(events) == 1:
        del events[0]["data"]["raw"]
    return {"events": events, "drift": list(decoded.drift)}


def main() -> None:
    """Record what is missing."""
    for sample in all_samples():
        if not sample.expected:
            target = FOLDER / sample.callback / sample.case / "expected.json"
            target.write_text(json.dumps(expectation(sample), ensure_ascii=False, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
