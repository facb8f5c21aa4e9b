"""TLS settings that forwarders share, and what goes wrong with TLS in words that help to mend it."""

from __future__ import annotations

import ssl
from typing import Final

from agent import contracts
from agent.clock import Clock, iso
from agent.errors import Disconnected

_UNKNOWN_AUTHORITY: Final = "tls.ca must hold the certificate of the authority that has signed the broker's"
_CHECK: Final = {
    9: "it is not valid yet, or our clock is wrong: it says {now} UTC",
    10: "it must be renewed at the broker, or our clock is wrong: it says {now} UTC",
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


def explain(error: Exception, where: str) -> str:
    """Say why a far side cannot be reached and what to do about it.

    Args:
        error: What connecting raised.
        where: The far side, such as `the broker site:8883`.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        what = _CHECK.get(error.verify_code, "check tls.ca, host and the clock")
        what = what.format(now=iso(Clock().wall())[:16])
        return f"{where} shows a certificate that is not trusted: {error.verify_message}; {what}"
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
