"""A far side, step by step: its name, its port, its certificate."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from agent.doctor.findings import Finding, counted, fault, note, ok, said
from agent.errors import Disconnected
from agent.forwarders._tls import Shown, explain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.needs import Endpoint, TlsClient

PATIENCE: Final = 4.0
"""Seconds for the name, again for the connection, and again for TLS."""

SOON: Final = 14
"""Days before the end of a certificate from which on it is told."""

_NO_CHECK_TIME: Final = ssl.VerifyFlags(0x20_0000)
"""X509_V_FLAG_NO_CHECK_TIME of X509_VERIFY_PARAM_set_flags(3), which the ssl module does not name."""


def examine(need: Endpoint) -> Iterator[Finding]:
    """Go as far as a connection goes; the last finding is a fault where it goes no further."""
    try:
        addresses = _addresses(need.host, need.port)
    except TimeoutError:
        yield fault(
            f"no name server answers within {PATIENCE:g} s: the name {need.host} is not known",
            "look at the network and at what it calls its name server: cat /etc/resolv.conf",
        )
        return
    except OSError as error:
        yield fault(f"the name {need.host} is not known: {error.strerror}", _name_server(need.host))
        return
    if need.host not in addresses:
        yield ok(f"the name {need.host} stands for {', '.join(addresses)}")
    try:
        plain = socket.create_connection((need.host, need.port), PATIENCE)
    except OSError as error:
        yield said(Disconnected(explain(error, need.where)))
        return
    with plain:
        if need.tls is None:
            yield ok(f"{need.where} accepts connections")
        else:
            yield from _secured(need, need.tls, plain)


def _addresses(host: str, port: int) -> list[str]:
    """Return what a name stands for.

    Raises:
        TimeoutError: Nobody tells; the thread that waits for it is left behind.
        OSError: It stands for nothing.
    """
    found: list[str] = []
    errors: list[OSError] = []

    def ask() -> None:
        try:
            found.extend(str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            errors.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    if errors:
        raise errors[0]
    if asking.is_alive():
        raise TimeoutError
    return sorted(set(found))


def _name_server(host: str) -> str:
    if host.endswith(".local"):
        return "names in .local need avahi (sudo apt install avahi-daemon libnss-mdns) here and there; or write its address as host"
    return f"check the spelling of host, and the network and its name server: getent hosts {host}"


def _secured(need: Endpoint, tls: TlsClient, plain: socket.socket) -> Iterator[Finding]:
    if tls.certificate is not None and tls.key is not None:
        yield from _own(tls.certificate, tls.key)
    try:
        with tls.context().wrap_socket(plain, server_hostname=need.host) as secured:
            certificate, version = secured.getpeercert(), secured.version()
    except Disconnected as error:
        yield fault(str(error), "put a readable file there, or mend the path")
        return
    except (OSError, ValueError) as error:
        yield said(Disconnected(explain(error, need.where, Shown(need.host, need.port))))
        return
    if not tls.verify:
        yield note(
            f"{need.where} could be anybody: verify: false trusts any certificate",
            "name the authority as tls.ca",
        )
    if certificate:
        yield _days(
            "the broker's certificate",
            certificate,
            f"{need.where} speaks {version}",
            "renew it at the broker",
        )


def _own(certificate: str, key: str) -> Iterator[Finding]:
    """Say how long our own certificate lasts; that it cannot be used is said where it is used."""
    try:
        shown = read_own(certificate, key)
    except (OSError, ValueError):
        return
    yield _days(f"our own certificate {certificate}", shown, "", "have a new one signed for this gateway")


def _days(whose: str, certificate: Any, before: str, renew: str) -> Finding:
    ends = ssl.cert_time_to_seconds(certificate["notAfter"])
    left = int((ends - time.time()) // 86_400)
    day = time.strftime("%Y-%m-%d", time.gmtime(ends))
    what = f"{before}{', and ' if before else ''}{whose} "
    if left < 0:
        return fault(f"{what}has ended on {day}", f"{renew}; or our clock is wrong")
    if left < SOON:
        return note(f"{what}ends on {day}, in {counted(left, 'day')}", renew)
    return ok(f"{what}is valid until {day}, for {counted(left, 'day')} more")


def read_own(certificate: str, key: str) -> Any:
    """Return what is in a certificate of our own, as the ssl module tells it of a far side's.

    That module reads only certificates that somebody shows, so we show it to ourselves, in memory.

    Raises:
        OSError: A file cannot be read.
        ssl.SSLError: They are not a certificate and its key.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(certificate)
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(back, there)
    showing = server.wrap_bio(there, back, server_side=True)
    for _ in range(4):  # each side waits for the other twice at most
        for side in (asking, showing):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return asking.getpeercert()
