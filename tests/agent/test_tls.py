"""What goes wrong with TLS is said in words that help to mend it."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.certificates import Authority

from agent.forwarders import _tls
from agent.forwarders._tls import Shown, Tls, explain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.certificates import Pair


@asynccontextmanager
async def serving(pair: Pair) -> AsyncIterator[int]:
    """Speak TLS with a certificate, and yield the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)

    def close(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def refused(port: int, ca: Path, shown: Shown) -> str:
    """Connect in vain, and return what is said."""
    with pytest.raises(ssl.SSLCertVerificationError) as raised:
        await asyncio.open_connection(
            "127.0.0.1", port, ssl=Tls(ca=str(ca)).context(), server_hostname="127.0.0.1"
        )
    return await asyncio.to_thread(explain, raised.value, "the broker site:8883", shown)


async def test_a_certificate_that_has_expired_is_named_with_its_days(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with serving(authority.issue("broker", days=-2)) as port:
        told = await refused(port, authority.file, Shown("127.0.0.1", port))

    assert "('broker' for localhost, 127.0.0.1, signed by 'authority', valid from 20" in told
    assert "): certificate has expired; it, or one that has signed it, must be renewed at the broker" in told


async def test_a_certificate_that_stays_is_not_fetched_at_each_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted, other = Authority(tmp_path), Authority(tmp_path, "other")
    async with serving(other.issue("broker")) as port:
        shown = Shown("127.0.0.1", port)
        assert "signed by 'other'" in await refused(port, trusted.file, shown)
    assert "signed by 'other'" in await asyncio.to_thread(shown.text), "nobody is there to ask"

    monkeypatch.setattr(_tls, "LOOK_EVERY", 0.0)
    assert await asyncio.to_thread(shown.text) == "", "it cannot be had now"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (10, "must be renewed at the broker, or our clock is wrong: it says 20"),
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
