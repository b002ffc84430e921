"""Receivers that are closed after their test, and a certificate for one."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.webhooks.receiver import Answer, Receive, Receiver, Tls
from unstuck.store.sqlite import SQLiteStore


@pytest.fixture
def receive() -> Iterator[Receive]:
    """Start receivers; close them after the test."""
    started: list[Receiver] = []

    def start(*answers: int | Answer, tls: ssl.SSLContext | None = None, port: int = 0) -> Receiver:
        started.append(Receiver(*answers, tls=tls, port=port))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hook.example")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives: list[x509.GeneralName] = [
        x509.DNSName("hook.example"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.2")),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (tmp_path / "certificate.pem").write_bytes(pem)
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    receiver = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    receiver.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    return Tls(receiver, ssl.create_default_context(cadata=pem.decode()))


@pytest.fixture
def store(store_in_real_time: SQLiteStore) -> SQLiteStore:
    return store_in_real_time
