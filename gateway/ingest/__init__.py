"""The HTTP edge that the platform calls: authenticate, decode, append, answer.

``server`` listens and finds the path's row in ``endpoints``. ``connection`` reads requests from a socket;
``request_line`` escapes characters that the platform's clients send raw. ``accept`` checks credentials, decodes,
appends to the log and answers when the events are durable; the log recognises repeats. ``client_ip`` finds the caller's
address behind proxies.
"""
