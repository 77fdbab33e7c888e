"""The official suite for clients, judging the portal's upstream side: its servers see what the portal sends."""

import json
import pathlib
import subprocess
import sys
import tempfile

import lab

SCENARIO_SECONDS = 90
# By protocol version. Left out: `auth/*`, as the portal shows its servers the credentials that it was given and gets none by
# itself; `elicitation-*`, whose answers are its client's; `sse-retry`, whose reconnecting is passed on to its client, which is
# checked in streams.py; `request-metadata`, which takes it for a fault that a server is asked in the older era, too.
SCENARIOS = {
    "2025-06-18": ["initialize", "tools_call"],
    "2025-11-25": ["initialize", "tools_call", "json-schema-2020-12-preservation"],
    "2026-07-28": [
        "tools_call",
        "sep-2322-client-request-state",
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
        "json-schema-ref-no-deref",
        "json-schema-2020-12-preservation",
    ],
}


# What fails by intention, by its check and words of its error.
INTENDED = [
    # A call with null where the tool's schema says boolean: the portal refuses it, as it holds arguments against the schema.
    ("sep-2243-client-omit-null", ""),
    # For clients with sessions a server is asked whether it has them, by a request of the older era, whose headers it has.
    ("sep-2243-client-includes-standard-headers", "on initialize request"),
]


def run_all(results, modules, gnomon):
    for version, scenarios in SCENARIOS.items():
        for scenario in scenarios:
            results.check(f"client conformance {version} {scenario}", lambda v=version, s=scenario: judge(modules, gnomon, v, s))


def judge(modules, gnomon, version, scenario):
    script = pathlib.Path(__file__).resolve().parent / "as_client.py"
    with tempfile.TemporaryDirectory(prefix="gnomon-client-suite-") as scratch:
        command = [lab.node_of(modules), modules / "conformance-next/dist/index.js", "client", "--scenario", scenario]
        command += ["--spec-version", version, "-o", scratch, "--command", f"{sys.executable} {script} --gnomon {gnomon.resolve()}"]
        said = subprocess.run([str(part) for part in command], capture_output=True, timeout=SCENARIO_SECONDS, cwd=scratch)
        checks = [check for file in pathlib.Path(scratch).rglob("checks.json") for check in json.loads(file.read_text())]
    failed = [(check["id"], check.get("errorMessage") or check["description"]) for check in checks if check["status"] == "FAILURE"]
    failed = [f"{check}: {error}" for check, error in failed if not any(check == one and words in error for one, words in INTENDED)]
    if failed or not checks:
        raise AssertionError("; ".join(failed)[:1500] or (said.stdout + said.stderr).decode()[-1500:])
    return f"{sum(check['status'] == 'SUCCESS' for check in checks)} checks"
