"""What the internet sends: raw bytes at a real gateway, and what it costs everybody else.

``corpus`` is data, a table of named cases, so that other tests can send the same bytes another way; ``wire`` sends one.
"""
