"""Lets a benchmark speak TLS: a certificate authority of its own, made anew for each run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

CERTIFICATE: Final = "ASYNCSFK_BENCHMARK_CERTIFICATE"
"""The environment variable that names the server's PEM file, set where the authority is trusted."""


def run_under_authority() -> None:
    """Run this command again with an authority that all its clients trust, and exit as it does.

    OpenSSL learns of it from the environment, before anything is imported, so that nothing in the
    clients is set up for it. In the command that was run again, this returns at once.
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
