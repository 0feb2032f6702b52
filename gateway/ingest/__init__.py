"""The HTTP edge that the platform calls: authenticate, decode, append, answer.

``server`` listens. ``fast_path`` processes plain requests (``plain_http``), aiohttp with ``connection`` and ``bodies``
all others. Both find the path's row in ``endpoints``. ``accept`` checks credentials, decodes, appends to the log and
answers when the events are durable; the log recognises repeats.
"""
