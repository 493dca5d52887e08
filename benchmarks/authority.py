"""Lets a benchmark speak TLS: a certificate authority of its own, made anew for each run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

CERTIFICATE: Final = "ASYNCSFK_BENCHMARK_CERTIFICATE"
"""Names the server's PEM file, in the environment of a benchmark that runs under the authority."""


def run_under_authority() -> None:
    """Run this command again with an authority that all its clients trust, and exit as it does.

    OpenSSL is told of it by the environment, before anything is imported; nothing in the clients
    is set up for it. Returns at once in the command that was run again.
    """
    if CERTIFICATE in os.environ:
        return
    try:
        import trustme  # noqa: PLC0415 - for this alone
    except ImportError:
        sys.exit("--tls needs the package trustme, which the extra bench installs")
    with tempfile.TemporaryDirectory() as folder:
        authority, certificate = Path(folder) / "authority.pem", Path(folder) / "server.pem"
        made = trustme.CA()
        made.cert_pem.write_to_path(str(authority))
        made.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        trusting = {"SSL_CERT_FILE": str(authority), CERTIFICATE: str(certificate)}
        command = [sys.executable, *sys.argv]
        sys.exit(subprocess.run(command, env=os.environ | trusting, check=False).returncode)  # noqa: S603 - this very command
