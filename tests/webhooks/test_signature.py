"""Signatures: the test vector of Standard Webhooks, and malformed secrets."""

from __future__ import annotations

import base64

import pytest

from unstuck.webhooks.signature import keys, sign

#: The test vector of the libraries of Standard Webhooks.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_shared_vector() -> None:
    assert sign(keys(SECRET), ID, TIMESTAMP, BODY) == SIGNATURE


def test_every_key_signs() -> None:
    other = "whsec_" + base64.b64encode(b"k" * 32).decode()
    both = keys(f"{other}\n {SECRET} ")
    assert len(both) == 2
    first, second = sign(both, ID, TIMESTAMP, BODY).split(" ")
    assert second == SIGNATURE
    assert first == sign(keys(other), ID, TIMESTAMP, BODY) != second


def test_no_secret_gives_no_key() -> None:
    assert keys(" \n") == ()


@pytest.mark.parametrize(
    "secret",
    [
        "secret", "whsec_", "whsec_####", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_" + base64.b64encode(b"k" * 23).decode(), "whsec_" + base64.b64encode(b"k" * 65).decode(),
    ],
)  # fmt: skip
def test_malformed_secrets(secret: str) -> None:
    with pytest.raises(ValueError, match="openssl rand") as refused:
        keys(f"{SECRET} {secret}")
    assert "Secret 2" in str(refused.value)
    assert secret.removeprefix("whsec_")[:8] not in str(refused.value) or secret == "whsec_"
