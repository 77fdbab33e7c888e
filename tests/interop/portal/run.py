"""The portal, judged from outside; called by `cargo xtask interop --portal`. See README.md."""

import argparse
import os
import pathlib
import signal
import sys
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import client_suite  # noqa: E402
import clients  # noqa: E402
import conformance  # noqa: E402
import eras  # noqa: E402
import extended  # noqa: E402
import failures  # noqa: E402
import lab  # noqa: E402
import recipes  # noqa: E402
import streams  # noqa: E402


class Results:
    """Each check prints one line; whatever went wrong is told and counted."""

    def __init__(self, only):
        self.only, self.failed, self.done = only, [], 0

    def skip(self, name, why):
        """Says so aloud, and where CI counts it."""
        line = f"SKIPPED {name}: {why}"
        print(line, flush=True)
        if os.environ.get("GNOMON_SKIPS"):
            with open(os.environ["GNOMON_SKIPS"], "a") as skips:
                skips.write(line + "\n")

    def wanted(self, name):
        return not self.only or self.only in name

    def check(self, name, body):
        if not self.wanted(name):
            return
        self.done += 1
        try:
            said = body() or ""
            print(f"ok   {name} {said}".rstrip(), flush=True)
        except (Exception, SystemExit) as wrong:  # noqa: BLE001
            self.failed.append(name)
            where = traceback.extract_tb(wrong.__traceback__)[-1]
            print(f"FAIL {name}: {type(wrong).__name__}: {wrong} ({pathlib.Path(where.filename).name}:{where.lineno})", flush=True)


def conform(results, modules, gnomon, direct_only):
    """Every check of the official suites that passes directly passes through the portal."""
    names = [name for name in conformance.SUITES if results.wanted(f"conformance {name}")]
    if not names:
        return
    with lab.fixture(modules) as url:
        direct = {name: conformance.run_suite(modules, name, url) for name in names}
    through = {}
    if not direct_only:
        with lab.fixture(modules) as url, lab.portal(gnomon, {"up": url}, prefix="never") as portal:
            through = {name: conformance.run_suite(modules, name, portal.url) for name in names}
    print(f"{'suite':12} {'direct':>8} {'portal':>8}   checks passed")
    for name in names:
        print(f"{name:12} {conformance.count(direct[name])['SUCCESS']:8} {conformance.count(through.get(name, {}))['SUCCESS']:8}", flush=True)
    for name in names:
        results.check(f"conformance {name}", lambda name=name: judge(direct[name], through.get(name)))


def judge(direct, through):
    failing = [key for key, outcomes in direct.items() if any(status in ("FAILURE", "WARNING") for status, _ in outcomes)]
    if failing:
        raise AssertionError(f"the fixture itself fails {failing}")
    if through is None:
        return "directly"
    lost = conformance.lost(direct, through)
    if lost:
        raise AssertionError("lost: " + "; ".join(f"{scenario} / {check}: {' '.join(said)[:300]}" for scenario, check, said in lost))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--modules", type=pathlib.Path, required=True, help="the node_modules that package-lock.json pins")
    parser.add_argument("--sdks", type=pathlib.Path, required=True, help="where the SDKs of the other checks are installed")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--gnomon", type=pathlib.Path, help="the binary to drive")
    mode.add_argument("--direct", action="store_true", help="no portal: prove the fixture")
    parser.add_argument("--only", help="run checks whose name contains this")
    arguments = parser.parse_args()
    # Ending by signal must take the servers along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = Results(arguments.only)
    modules = arguments.modules.resolve()
    conform(results, modules, arguments.gnomon, arguments.direct)
    extended.run_all(results, modules, arguments.gnomon)
    if not arguments.direct:
        client_suite.run_all(results, modules, arguments.gnomon)
        streams.run_all(results, modules, arguments.gnomon)
        eras.run_all(results, arguments.gnomon)
        failures.run_all(results, arguments.gnomon)
        recipes.run_all(results, arguments.gnomon)
        clients.run_all(results, modules, arguments.gnomon, arguments.sdks.resolve())
    print(f"{results.done - len(results.failed)} of {results.done} checks passed")
    return 1 if results.failed or not results.done else 0


if __name__ == "__main__":
    sys.exit(main())
