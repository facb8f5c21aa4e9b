"""What goes wrong with TLS is said in words that help to mend it."""

from __future__ import annotations

import ssl

import pytest

from agent.forwarders._tls import explain


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (10, "it must be renewed at the broker, or our clock is wrong: it says 20"),
        (9, "it is not valid yet, or our clock is wrong: it says 20"),
        (18, "name it as tls.ca to trust it"),
        (20, "tls.ca must hold the certificate of the authority"),
        (62, "host must be a name that stands in the broker's certificate"),
        (999, "check tls.ca, host and the clock"),
    ],
)
def test_a_certificate_that_is_not_trusted_says_what_to_do(code: int, said: str) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "as OpenSSL says it"

    told = explain(error, "the broker site:8883")

    assert told.startswith(
        "the broker site:8883 shows a certificate that is not trusted: as OpenSSL says it; "
    )
    assert said in told


def test_a_refusal_of_our_certificate_names_it() -> None:
    error = ssl.SSLError(1, "alert")
    error.reason = "SSLV3_ALERT_CERTIFICATE_EXPIRED"

    told = explain(error, "the broker site:8883")

    assert "refuses us: certificate expired" in told
    assert "tls.certificate" in told
