"""Coverage-guided fuzzing of everything that reads bytes of strangers, or of a disk.

    python -m tests.fuzz decoders --runs 1000000     # atheris; Linux, see the dev extra
    python -m tests.fuzz --list

``targets`` holds one function for each target: bytes in, and an exception when a promise is broken. They know nothing
of atheris, so that the corpus is replayed as plain tests everywhere. ``corpus/<target>/`` holds inputs worth keeping:
those that made the fuzzer see new code, and every one that broke something once.
"""
