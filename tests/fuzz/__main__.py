"""``python -m tests.fuzz TARGET… --runs N``: atheris on each target, until the runs are over or a promise is broken."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
from pathlib import Path

MISSING = "fuzzing needs atheris, which is made for Linux and macOS: pip install atheris"


def main() -> None:
    """Never returns but by exit: 0 when nothing broke; libFuzzer writes what broke into the current folder.

    The gateway is instrumented once, which takes longer than a short run. Each target has a process of its own.
    """
    options = _options()
    try:
        import atheris
    except ImportError:
        sys.exit(MISSING)
    with atheris.instrument_imports(include=["gateway"]):
        targets = importlib.import_module("tests.fuzz.targets").TARGETS
    if options.list or not options.targets or set(options.targets) - set(targets):
        sys.exit(f"targets: {', '.join(targets)}")
    broken = []
    for target in options.targets:
        if not (pid := os.fork()):
            atheris.Setup(_arguments(options, target), targets[target])
            atheris.Fuzz()
        if os.waitpid(pid, 0)[1]:
            broken.append(target)
    sys.exit(f"broken: {', '.join(broken)}" if broken else 0)


def _arguments(options: argparse.Namespace, target: str) -> list[str]:
    """Return libFuzzer's command line, with the kept inputs as files."""
    from tests.fuzz.seeds import CORPUS, inputs

    begin = Path(tempfile.mkdtemp(prefix="fuzz-"))
    for number, data in enumerate(inputs(target)):
        (begin / f"seed-{number}").write_bytes(data)
    kept = CORPUS / target if options.keep else begin
    kept.mkdir(exist_ok=True)
    arguments = [
        sys.argv[0], str(kept), str(begin), f"-max_len={options.max_len}", "-timeout=10", "-rss_limit_mb=1024",
        f"-artifact_prefix={options.artifacts}/", "-print_final_stats=1",
    ]  # fmt: skip
    if options.runs:
        arguments.append(f"-runs={options.runs}")
    if options.seconds:
        arguments.append(f"-max_total_time={options.seconds}")
    if options.seed:
        arguments.append(f"-seed={options.seed}")
    return arguments


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--list", action="store_true", help="the targets")
    parser.add_argument("--runs", type=int, default=0, help="executions; 0: until --seconds, or for ever")
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-len", type=int, default=4096)
    parser.add_argument("--artifacts", default=".", help="folder for inputs that broke a promise")
    parser.add_argument("--keep", action="store_true", help="write inputs that reach new code into the repository")
    return parser.parse_args()


if __name__ == "__main__":
    main()
