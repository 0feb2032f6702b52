"""The secure listener: TLS with a certificate of this run, SASL, and an authorizer that lets strangers do nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.fanout.authority import Authority

CA_FILE: Final = "ca.pem"
USER: Final = "gateway"
PASSWORD: Final = "gateway-secret"
#: Authenticates, but no ACL lets it do anything until a test adds one.
STRANGER: Final = "stranger"
STRANGER_PASSWORD: Final = "stranger-secret"
SCRAM_USER: Final = f"SCRAM-SHA-256=[name={USER},password={PASSWORD}]"

_MODULES: Final = "org.apache.kafka.common.security"


def make_certificate(folder: Path) -> None:
    """``server.pem`` for the broker: its certificate, for loopback, and key; ``ca.pem`` for clients: who signed it."""
    Authority(folder, "ca").issue("server", hours=30 * 24)


def properties(folder: Path, port: int, controller_port: int, secure_port: int) -> dict[str, str]:
    """Lines of ``server.properties`` that add the listener. Who comes by the plain one (ANONYMOUS) may do all."""
    listener = "listener.name.sasl_ssl"
    return {
        "listeners": (
            f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port},SASL_SSL://127.0.0.1:{secure_port}"
        ),
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure_port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "server.pem"),
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,OAUTHBEARER",
        f"{listener}.plain.sasl.jaas.config": (
            f'{_MODULES}.plain.PlainLoginModule required user_{USER}="{PASSWORD}" '
            f'user_{STRANGER}="{STRANGER_PASSWORD}";'
        ),
        f"{listener}.scram-sha-256.sasl.jaas.config": f"{_MODULES}.scram.ScramLoginModule required;",
        # Without a callback handler Kafka takes unsigned tokens (RFC 7515, alg none): for tests only.
        f"{listener}.oauthbearer.sasl.jaas.config": (
            f'{_MODULES}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{USER}",
    }
