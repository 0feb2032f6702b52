"""The HTTP edge that the platform calls: authenticate, decode, append, answer.

``server`` listens and finds the path's row in ``endpoints``; ``connection`` reads requests off a socket
(``request_line`` mends what the platform's clients send unescaped); ``intake`` decides: it checks credentials, decodes,
skips what ``known`` says was stored already, appends to the log and answers when that is durable. ``peer`` tells whose
request it is behind proxies.
"""
