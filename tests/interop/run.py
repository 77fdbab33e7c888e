"""Entry of `cargo xtask interop`: see README.md."""

import argparse
import pathlib
import signal
import sys
import tempfile

sys.dont_write_bytecode = True

from harness import evasions, mcp_checks, web_checks  # noqa: E402
from harness.lab import Lab  # noqa: E402
from harness.results import Results  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=pathlib.Path, required=True, help="where the SDKs are installed")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--gnomon", type=pathlib.Path, help="the binary to drive")
    mode.add_argument("--direct", action="store_true", help="no proxy: prove the clients and servers")
    parser.add_argument("--only", help="run scenarios whose name contains this")
    arguments = parser.parse_args()
    # Ending by signal must take the servers along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = Results(arguments.only)
    with tempfile.TemporaryDirectory(prefix="run-", dir=arguments.work) as folder:
        with Lab(pathlib.Path(folder), arguments.work / "node", arguments.gnomon) as lab:
            mcp_checks.run_all(lab, results)
            web_checks.run_all(lab, results)
            evasions.run_all(lab, results)
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
