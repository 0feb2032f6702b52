"""Search: find the events with an id, a phone number or a callback.

The index is in the journal's folder. A reader of the log fills it after the answer to the platform, so indexing delays
no answer. Its content is derived from the journal: the index may be deleted at any time and is then built again.

===========  =====================================================================================
``keys``     pure: keys of an event, and keys of a search text
``index``    keys and kinds → offsets in the journal, and positions in Kafka: columns in a file. Blocks
``indexer``  journal → index, in small slices with pauses; lag; retention; rebuilds a broken index
``search``   the queries of console, API and ``gateway explain``
===========  =====================================================================================
"""

from gateway.search.search import Keep, Query, Search, SearchPage

__all__ = ["Keep", "Query", "Search", "SearchPage"]
