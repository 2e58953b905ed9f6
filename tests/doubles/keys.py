"""Keys and certificates for tests, made once per process, and an authority that signs for 127.0.0.1."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificatePublicKeyTypes,
    PublicKeyTypes,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

#: The key usage of an authority, which Python 3.13 and later require.
_SIGNS_CERTIFICATES = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


class Known:
    """Replaces the remote keys: returns the given key for each address."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = keys

    def get(self, url: str) -> bytes | None:
        """Return the key at an address."""
        return self._keys.get(url)


def rsa_key(name: str = "", bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return the RSA key of this name."""
    return _rsa_key(name, bits)


def ec_key(name: str = "", curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    """Return the ECDSA key of this name."""
    return _ec_key(name, curve)


def ed25519_key(name: str = "") -> ed25519.Ed25519PrivateKey:
    """Return the Ed25519 key of this name."""
    return _ed25519_key(name)


@cache
def _rsa_key(_name: str, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def _ec_key(_name: str, curve: type[ec.EllipticCurve]) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


@cache
def _ed25519_key(_name: str) -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def pem(key: PublicKeyTypes) -> str:
    """Write a public key in PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def der(key: PublicKeyTypes) -> bytes:
    """Write a public key in DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def raw(key: ed25519.Ed25519PublicKey) -> bytes:
    """Write an Ed25519 key as its 32 bytes."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def certificate(
    key: CertificatePublicKeyTypes,
    name: str,
    *,
    issuer: CertificateIssuerPrivateKeyTypes,
    since: float,
    until: float,
    hosts: tuple[str, ...] = (),
    is_authority: bool = False,
    lacks: str = "",
) -> bytes:
    """Make a certificate in PEM, valid between two unix times. That of an authority may lack an extension."""
    issued_by = name if is_authority or not hosts else "test authority"
    made = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issued_by))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(since, UTC))
        .not_valid_after(datetime.fromtimestamp(until, UTC))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
    if lacks != "authority key identifier":
        issued = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
        made = made.add_extension(issued, critical=False)
    if is_authority and lacks != "key usage":
        made = made.add_extension(_SIGNS_CERTIFICATES, critical=True)
    if hosts:
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        made = made.add_extension(names, critical=False)
    return made.sign(issuer, hashes.SHA256()).public_bytes(Encoding.PEM)


def tls_server(folder: Path, *hosts: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make the contexts of a server with these names, and of a client that trusts its authority."""
    now = datetime.now(UTC)
    since, until = (now - timedelta(hours=1)).timestamp(), (now + timedelta(hours=1)).timestamp()
    authority, key = ec_key("authority"), ec_key("server")
    made = partial(certificate, issuer=authority, since=since, until=until)
    root = made(authority.public_key(), "test authority", is_authority=True)
    leaf = made(key.public_key(), hosts[0], hosts=hosts)
    file = folder / "server.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + leaf)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=root.decode())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
