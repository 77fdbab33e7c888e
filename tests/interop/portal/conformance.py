"""The official conformance suite against one URL, and the comparison of two such runs.

    conformance.py --modules DIR URL [--suite NAME] [--only SCENARIO] [--raw DIR]

prints the checks that did not pass. Every check counts, not the suite's own verdict: what it only warns about
(events that cannot be resumed, say) is lost by a gateway as easily as what it fails.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile

import lab

SUITE_SECONDS = 420
# The suite as published, and the newer one for each era. The order is that of the tables.
SUITES = {
    "0.1.16": ("conformance", ["--suite", "all"]),
    "2025-11-25": ("conformance-next", ["--suite", "all", "--spec-version", "2025-11-25"]),
    "2026-07-28": ("conformance-next", ["--suite", "all", "--spec-version", "2026-07-28"]),
}
# INFO is a log, and also what a check says that does not apply.
OUTCOMES = ("SUCCESS", "WARNING", "FAILURE", "SKIPPED", "INFO")


def run_suite(modules, suite, url, only=None, raw=None):
    """{(scenario, check): [outcome and what was said, ...]}: a scenario may make the same check several times."""
    package, flags = SUITES[suite]
    with tempfile.TemporaryDirectory(prefix="gnomon-conformance-") as scratch:
        folder = pathlib.Path(raw or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        command = [lab.node_of(modules), modules / package / "dist/index.js", "server", "--url", url, "-o", folder]
        # A scenario by name is run whichever suite it is in; those of extensions stand on no version's list.
        command += ["--scenario", only, *flags[2:], *(["--force"] if "-next" in package else [])] if only else flags
        # Its exit code says only that something failed, which the comparison judges.
        said = subprocess.run([str(part) for part in command], capture_output=True, timeout=SUITE_SECONDS, cwd=scratch)
        checks = collections.defaultdict(list)
        for file in sorted(folder.rglob("checks.json")):
            # server-NAME-2026-11-20T19-00-00-000Z
            scenario = file.parent.name.removeprefix("server-")[: -len("-2026-11-20T19-00-00-000Z")]
            for check in json.loads(file.read_text()):
                if check["status"] in OUTCOMES:
                    checks[scenario, check["id"]].append((check["status"], check.get("errorMessage") or check["description"]))
    if not checks:
        raise SystemExit(f"the suite {suite} checked nothing:\n{(said.stdout + said.stderr).decode()[-2000:]}")
    return dict(checks)


def count(checks):
    """How many checks went which way."""
    return collections.Counter(status for outcomes in checks.values() for status, _ in outcomes)


def passed(checks, key):
    return sum(status == "SUCCESS" for status, _ in checks.get(key, []))


def lost(direct, through):
    """Checks that pass directly and not as often through the portal, each with what the suite said.

    One that no longer applies is not lost: that answers are JSON where they could be a stream is the portal's choice.
    """
    found = []
    for key in sorted(direct):
        outcomes = through.get(key, [])
        if passed(through, key) < passed(direct, key) and not (outcomes and all(status == "INFO" for status, _ in outcomes)):
            said = [f"{status}: {text}" for status, text in outcomes if status != "SUCCESS"]
            found.append((*key, said or ["not checked, as something before it failed"]))
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--modules", type=pathlib.Path, required=True, help="the node_modules that package-lock.json pins")
    parser.add_argument("--suite", choices=SUITES, action="append")
    parser.add_argument("--only", help="one scenario")
    parser.add_argument("--raw", type=pathlib.Path, help="keep the suite's own results here")
    arguments = parser.parse_args()
    failed = False
    for suite in arguments.suite or SUITES:
        raw = arguments.raw / suite if arguments.raw else None
        checks = run_suite(arguments.modules, suite, arguments.url, arguments.only, raw)
        counted = count(checks)
        print(f"{suite}: {counted['SUCCESS']} passed, {counted['WARNING']} warned, {counted['FAILURE']} failed", flush=True)
        for (scenario, check), outcomes in sorted(checks.items()):
            for status, text in outcomes:
                if status in ("FAILURE", "WARNING"):
                    failed = True
                    print(f"  {status} {scenario} / {check}: {text[:400]}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
