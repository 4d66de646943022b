"""Whose certificates are believed when a service is reached by TLS. Certificates and host names are always verified.

What a URL's own parameters say of TLS comes before this: they are read by the SDKs.
"""

import ssl
from pathlib import Path


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """The CAs in that PEM file and no others; None: the system's. Raises OSError, and ValueError where it holds no certificate."""
    context = ssl.create_default_context(cafile=ca_file)
    if ca_file is not None and not context.cert_store_stats()["x509"]:
        raise ValueError("there is no certificate in it")
    return context


def trusting_also(ca_file: Path | None) -> ssl.SSLContext:
    """The system's, and those in the file: for addresses that may be the public's or the services' own."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context
