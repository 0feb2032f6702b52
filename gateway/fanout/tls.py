"""TLS contexts towards subscribers: their certificate authority, and our certificate where they ask for one."""

from __future__ import annotations

import ssl

from gateway.config.sections import ClientTls
from gateway.errors import ConfigError


def context(tls: ClientTls) -> ssl.SSLContext | None:
    """Return the TLS context of one subscriber; None means the default one. Reads the files, so it is also the check.

    Raises:
        ConfigError: a file cannot be read or does not hold what it should; names the key.
    """
    if tls.ca_file is None and tls.cert_file is None:
        if tls.key_file is not None:
            raise ConfigError(["tls.key_file: a key is of no use without tls.cert_file"])
        return None
    try:
        made = ssl.create_default_context(cafile=tls.ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError([f"tls.ca_file: {tls.ca_file} cannot be used: {exc}"]) from exc
    if tls.cert_file is not None:
        try:
            made.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as exc:
            raise ConfigError([f"tls.cert_file: {tls.cert_file} cannot be used: {exc}"]) from exc
    return made


def _no_password() -> str:
    """Refuse an encrypted key: OpenSSL would ask on the terminal, and a service would hang."""
    raise ValueError("the key is encrypted; give one without a pass phrase")
