"""TLS settings that forwarders share, and what goes wrong with TLS in words that help to mend it."""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Final

from agent import contracts
from agent.clock import Clock, iso
from agent.errors import Disconnected

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOK_EVERY: Final = 600.0
"""Seconds between looks at a certificate that we do not trust: each costs two handshakes, on a line that may be metered."""

PATIENCE: Final = 10.0
"""Seconds that a far side may take to show its certificate."""

_PARTIAL_CHAIN: Final = ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
_NO_CHECK_TIME: Final = ssl.VerifyFlags(0x20_0000)
"""X509_V_FLAG_NO_CHECK_TIME of X509_VERIFY_PARAM_set_flags(3), which the ssl module does not name."""

_UNKNOWN_AUTHORITY: Final = "tls.ca must hold the certificate of the authority that has signed the broker's"
_CHECK: Final = {
    9: "it is not valid yet, or our clock is wrong: it says {now}",
    10: "it, or one that has signed it, must be renewed at the broker, or our clock is wrong: it says {now}",
    18: "it is signed by itself: name it as tls.ca to trust it",
    19: _UNKNOWN_AUTHORITY,
    20: _UNKNOWN_AUTHORITY,
    21: _UNKNOWN_AUTHORITY,
    62: "host must be a name that stands in the broker's certificate",
    64: "host must be an address that stands in the broker's certificate",
}
"""By the code of X509_verify_cert_error(3), what to do about it."""


class Tls(contracts.Settings, frozen=True):
    """TLS to the far side.

    Attributes:
        ca: File with the certificates to trust, PEM; the system's own where it is not said.
        certificate: File with our own certificate, PEM, where the far side asks for one.
        key: File with the private key of our certificate, PEM.
        verify: false trusts any certificate: for a trial only.
    """

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    verify: bool = True

    def __post_init__(self) -> None:
        if (self.certificate is None) is not (self.key is None):
            raise ValueError("certificate and key are expected together")

    def context(self) -> ssl.SSLContext:
        """Return what a client needs.

        Raises:
            Disconnected: A file cannot be read or used; it may be mended while we try again.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise Disconnected(f"tls.ca: cannot read certificates from {self.ca}: {error}") from error
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key)
            except (OSError, ssl.SSLError) as error:
                raise Disconnected(
                    f"tls.certificate: cannot use {self.certificate} with the key {self.key}: {error}"
                ) from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class Shown:
    """The certificate that a far side shows, for people: a fault must name it, and OpenSSL does not."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._known = ""
        self._looked_at: float | None = None

    def text(self) -> str:
        """Return whose it is, who signed it and its days, or nothing where it cannot be had. Blocks."""
        now = time.monotonic()
        if self._looked_at is None or now - self._looked_at >= LOOK_EVERY:
            self._looked_at = now
            try:
                self._known = _described(self._fetch())
            except (OSError, ValueError, KeyError):  # it is only for the message
                self._known = ""
        return self._known

    def _fetch(self) -> Mapping[str, Any]:
        """Connect twice: the ssl module tells what is in a certificate only where it is trusted, so trust just this one."""
        pem = ssl.get_server_certificate((self._host, self._port), timeout=PATIENCE)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=pem)
        context.verify_flags |= _PARTIAL_CHAIN | _NO_CHECK_TIME
        with (
            socket.create_connection((self._host, self._port), PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=self._host) as secured,
        ):
            return secured.getpeercert() or {}


def _described(certificate: Mapping[str, Any]) -> str:
    names = ", ".join(name for _, name in certificate.get("subjectAltName", ()))
    whose = _name(certificate["subject"]) + (f" for {names}" if names else "")
    since, until = (
        iso(ssl.cert_time_to_seconds(certificate[each]) * 1_000_000)[:10]
        for each in ("notBefore", "notAfter")
    )
    return f"{whose}, signed by {_name(certificate['issuer'])}, valid from {since} to {until}"


def _name(parts: tuple[tuple[tuple[str, str], ...], ...]) -> str:
    """Return a distinguished name as the ssl module has it, for people: its common name, or all of it."""
    pairs = [pair for part in parts for pair in part]
    common = [value for key, value in pairs if key == "commonName"]
    return repr(common[-1] if common else ", ".join(f"{key}={value}" for key, value in pairs))


def explain(error: Exception, where: str, shown: Shown | None = None) -> str:
    """Say why a far side cannot be reached and what to do about it. May block, where it asks for a certificate.

    Args:
        error: What connecting raised.
        where: The far side, such as `the broker site:8883`.
        shown: The certificate that it shows.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        what = _CHECK.get(error.verify_code, "check tls.ca, host and the clock")
        what = what.format(now=iso(Clock().wall())[:10])
        which = f" ({text})" if shown is not None and (text := shown.text()) else ""
        return f"{where} shows a certificate that is not trusted{which}: {error.verify_message}; {what}"
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        said = (error.reason or "").rpartition("ALERT_")[2].replace("_", " ").lower()
        return f"{where} refuses us: {said}; it is about our certificate, where we show one (tls.certificate)"
    if isinstance(error, ssl.SSLError):
        return f"TLS with {where} failed: {error.reason or error}; is it a TLS port, and does it want our certificate?"
    if isinstance(error, ConnectionRefusedError):
        return f"{where} refuses connections; is it running, and is the port right?"
    if isinstance(error, ConnectionResetError):
        return f"{where} resets the connection; is one side TLS and the other not?"
    if isinstance(error, TimeoutError):
        return f"{where} does not answer; check the network and the host"
    return f"cannot reach {where}: {error}"
