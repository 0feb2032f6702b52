"""``gateway init``: a configuration to start from, where there is no repository to copy one from."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from gateway.cli.options import config_option
from gateway.errors import Broken


@click.command(epilog="\b\nExamples\n  gateway init\n  gateway init -c /etc/gateway/config.yaml")
@config_option
def init(config_path: Path) -> None:
    """Write a configuration to start from.

    It has every key with its default and meaning, as a comment where the default is suitable. An existing file is
    never overwritten.
    """
    text = resources.files("gateway.config").joinpath("default.yaml").read_bytes()
    try:
        with config_path.open("xb") as file:
            file.write(text)
    except FileExistsError as exc:
        raise Broken(f"{config_path}: is there already, and is not changed") from exc
    except OSError as exc:
        raise Broken(f"{config_path}: cannot be written: {exc.strerror}") from exc
    click.echo(f"{config_path}: written. Start with: gateway run")
