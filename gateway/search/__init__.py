"""Look-ups: from an id, a phone number or a callback to the events it stands in.

An index beside the journal, made behind the accept path by a reader of the log like any other, so that it costs an
answer nothing. All in it is derived from the journal: it may be deleted at any time and is made again.

===========  =====================================================================================
``keys``     pure: an event → the texts it can be found by; what was typed → the texts to look for
``run``      pure: what some thousand records can be found by, as columns
``index``    the file: texts and kinds → offsets in the journal, where a batch stands in Kafka. Blocks
``indexer``  journal → index, in small slices with pauses; lag; retention; rebuilt when it is broken
``search``   what the console, the API and ``gateway explain`` ask
===========  =====================================================================================
"""

from gateway.search.search import Found, Query, Search

__all__ = ["Found", "Query", "Search"]
