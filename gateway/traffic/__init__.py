"""Simulation of the platform for ``gateway send``, and the subscriber of ``gateway listen``.

``simulator`` makes requests of each callback out of the samples in ``samples/``. ``client`` signs requests for a path
and sends them byte for byte, ``load`` sends many and counts the answers. ``receiver`` is a subscriber.
"""
