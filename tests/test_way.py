"""How many files of gateway/ one receipt passes through."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from tests.effort import nightly
from tests.way import figures, trace

# The traces run nightly: a machine that other tests keep busy takes other branches, whose files would count.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
#: Until its position is stored. A number may only become smaller.
_MOST_FILES: Final = 42
_MOST_FILES_WITH_KAFKA: Final = 57
#: Steps that no way can do without: a trace in which one is missing shows something else.
_PASSED: Final = {"FastConnection.data_received", "Callback.decode", "WebhookClient.post", "WindowedConsumer.done"}


async def _check(folder: Path, most: int, passed: set[str], **config: Any) -> None:
    """A busy machine can add files (a checkpoint) or end a window too soon: one trace of three counts."""
    for number in range(3):
        calls = (await trace(folder / str(number), **config)).calls
        is_whole = passed <= {call.function for call in calls}
        if is_whole and figures(calls)[0] <= most:
            return
    assert is_whole
    raise AssertionError(f"more than {most} files: {sorted({call.file for call in calls})}")


@nightly
async def test_a_receipt_passes_through_no_more_files_than_before(tmp_path: Path) -> None:
    await _check(tmp_path, _MOST_FILES, _PASSED | {"JournalCursors._saved"})


@nightly
@pytest.mark.kafka
async def test_with_kafka_it_passes_through_no_more_files_than_before(kafka: str, prefix: str, tmp_path: Path) -> None:
    sections = {"kafka": {"bootstrap_servers": kafka, "partitions": 2}, "topics": {"prefix": prefix}}
    await _check(tmp_path, _MOST_FILES_WITH_KAFKA, _PASSED | {"OffsetClient.commit"}, **sections)


def test_the_document_has_these_numbers() -> None:
    text = (Path(__file__).parent.parent / "deploy/docs/internals.md").read_text()
    assert f"| embedded | {_MOST_FILES} |" in text
    assert f"| with Kafka | {_MOST_FILES_WITH_KAFKA} |" in text
