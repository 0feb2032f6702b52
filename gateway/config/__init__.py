"""``config.yaml``: its types (:mod:`.settings`), how it is read (:mod:`.loading`) and read again (:mod:`.watch`).

``settings`` and ``values`` know of nothing else in the gateway, and everything may import them. The rest
checks a configuration against the callbacks, filters and secrets it names, so it stands above those packages.
"""
