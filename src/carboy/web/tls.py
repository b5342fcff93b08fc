"""TLS on the server's sockets: the context, and what an SSLSocket does unlike a socket.

Python's ``SSLSocket.shutdown`` drops the encryption before it shuts anything: what is read or written afterwards is plain. So nothing
here or elsewhere calls it on a connection that is still to be used.
"""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress

from carboy.errors import ConfigError

NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a socket that doesn't block raises where it would have."""
_EOF_IS_AN_END = ssl.OP_IGNORE_UNEXPECTED_EOF
"""An end of the input without close_notify is an end like any other: HTTP knows itself whether a message was whole. Else OpenSSL
would fail for good, and a client whose body is asked to end could not be answered."""


def context_of(cert: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 and 1.3 with the certificate and key of these files; HTTP/1.1 by ALPN (RFC 7301), no renegotiation.

    Raises ConfigError in one line: which file is not there, may not be read, holds no PEM, has a password, or doesn't fit the other.
    """
    _must_open("tls_cert", cert)
    _must_open("tls_key", key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE | _EOF_IS_AN_END
    context.set_alpn_protocols(["http/1.1"])

    def no_password() -> str:
        raise ConfigError(f"tls_key: {key!r} has a password; write it without: openssl pkey -in {key} -out NEW", setting="tls_key")

    try:
        context.load_cert_chain(cert, key, no_password)
    except ssl.SSLError as error:
        raise _unfit(cert, key, error) from None
    return context


def _must_open(setting: str, path: str) -> None:
    try:
        open(path, "rb").close()
    except OSError as error:
        raise ConfigError(f"{setting}: cannot read {path!r}: {os.strerror(error.errno or 0)}", setting=setting) from None


def _unfit(cert: str, key: str, error: ssl.SSLError) -> ConfigError:
    if error.reason == "KEY_VALUES_MISMATCH":
        return ConfigError(f"tls_key: {key!r} is not the key of the certificate in {cert!r}", setting="tls_key")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cert)
    except ssl.SSLError:
        return ConfigError(f"tls_cert: {cert!r} holds no certificate in PEM", setting="tls_cert")
    return ConfigError(f"tls_key: {key!r} holds no private key in PEM that fits ({error.reason or error})", setting="tls_key")


def is_established(sock: socket.socket) -> bool:
    """Whether anything may be said on it: plain, or after the handshake."""
    return not isinstance(sock, ssl.SSLSocket) or sock.version() is not None


def has_more(sock: socket.socket) -> bool:
    """Whether bytes were decrypted that nobody has read: for them the kernel wakes nobody."""
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0


def as_plain(sock: ssl.SSLSocket) -> socket.socket:
    """The same connection without TLS: for telling a client that speaks plain HTTP."""
    plain = socket.socket(fileno=sock.detach())
    plain.setblocking(False)
    return plain


def end_writing(sock: socket.socket) -> None:
    """Tell the client that nothing more comes; what it sends can then be read and thrown away as it is. The socket must not block.

    Raises OSError where the client has left.
    """
    if isinstance(sock, ssl.SSLSocket):
        with suppress(OSError, ValueError):
            sock.unwrap()  # sends close_notify (RFC 8446 section 6.1), and can't wait for the client's
    sock.shutdown(socket.SHUT_WR)


def end_reading(sock: socket.socket) -> None:
    """Make whoever reads from it, in another thread, come to the end of the input. Answers can still be sent, under TLS too."""
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RD)
