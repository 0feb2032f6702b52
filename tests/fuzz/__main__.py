"""``python -m tests.fuzz TARGET --runs N``: atheris on one target, until the runs are over or a promise is broken."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

MISSING = "fuzzing needs atheris, which is made for Linux and macOS: pip install atheris"


def main() -> None:
    """Never returns but by exit: 0 when nothing broke; libFuzzer writes what broke into the current folder."""
    options = _options()
    try:
        import atheris
    except ImportError:
        sys.exit(MISSING)
    with atheris.instrument_imports(include=["gateway"]):
        targets = importlib.import_module("tests.fuzz.targets").TARGETS
    from tests.fuzz.seeds import CORPUS, inputs

    if options.list or options.target not in targets:
        sys.exit(f"targets: {', '.join(targets)}")
    begin = Path(tempfile.mkdtemp(prefix="fuzz-"))
    for number, data in enumerate(inputs(options.target)):
        (begin / f"seed-{number}").write_bytes(data)
    kept = CORPUS / options.target if options.keep else begin
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
    atheris.Setup(arguments, targets[options.target])
    atheris.Fuzz()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", default="")
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
