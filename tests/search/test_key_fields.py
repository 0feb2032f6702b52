"""The names that search looks at are names of the model."""

from __future__ import annotations

from gateway.callbacks.vocabulary import MEANINGS
from gateway.search import keys


def test_names_of_keys_are_names_of_the_model() -> None:
    """A renamed field would be found by nothing any more, without an error: ids, and numbers with their meaning."""
    assert set(keys._ID_FIELDS) <= set(MEANINGS)
    assert {name for name in keys._PHONE_FIELDS if f"{name}_national" not in MEANINGS} == set()
