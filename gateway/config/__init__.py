"""``config.yaml``: its types (:mod:`.settings`), how it is read (:mod:`.loading`) and read again (:mod:`.watch`).

``settings`` and ``values`` import nothing else of the gateway, and every module may import them. The other modules
check a configuration against the callbacks, filters and secrets it names, so they are above those packages.
"""
