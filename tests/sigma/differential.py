#!/usr/bin/env python3
"""Rules as pySigma reads them, held against gnomon: the same values match, or gnomon refuses the rule and says why.

    differential.py GNOMON

pySigma only reads rules; what its values mean is evaluated here, by the Sigma 2.1.0 specification: texts whole and without regard to
case, wildcards, regular expressions anywhere. Each rule carries what is expected of each probe as a test of its own, and gnomon runs them.
A rule that pySigma refuses and gnomon takes is reported as well, unless it is in OURS.
"""

import ipaddress
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sigma.rule import SigmaRule
from sigma.types import (
    SigmaBool, SigmaCasedString, SigmaCIDRExpression, SigmaCompareExpression, SigmaExpansion, SigmaNull, SigmaNumber,
    SigmaRegularExpression, SigmaString, SpecialChars,
)

TEXT, NUMBER, TRUTH, ADDRESS = "user_agent.original", "http.response.status_code", "gnomon.sanctioned", "destination.address"

# pySigma refuses these, and gnomon takes them on purpose: (modifiers, value).
OURS = set()

# Values as they are written in a rule, each with texts that are held against it.
STRINGS = {
    "'powershell -enc'": ["powershell -enc", "PowerShell -ENC", "powershell /enc", "powershell –enc", "powershell —enc", "xpowershell -encx", ""],
    "'/c whoami'": ["/c whoami", "-c whoami", "–c whoami", "cmd /c whoami /all"],
    "'a-b/c'": ["a-b/c", "a/b-c", "a-b-c", "xa-b/cx"],
    "'-x -y'": ["-x -y", "/x /y", "-x /y", "/x -y", "―x ―y", "z -x -y"],
    "'wget*'": ["wget", "WGET http://x", "x wget", "wget*"],
    "'*.exe'": ["a.exe", ".exe", "a.exe b", "aXexe"],
    "'a?c'": ["abc", "ac", "a?c", "abbc", "ABC"],
    r"'a\*c'": ["a*c", "abc", "abbc"],
    r"'a\?c'": ["a?c", "abc"],
    r"'c:\windows\*'": [r"c:\windows\x", r"C:\WINDOWS\\", r"c:\windows", "c:windows"],
    r"'a\\b'": ["a\\b", "a\\\\b", "ab"],
    r"'a\\\*b'": ["a\\*b", "a\\xb", "a\\\\*b"],
    "'100%'": ["100%", "100", "1000%"],
    "'grün'": ["grün", "GRÜN", "grun"],
    "''": ["", "x"],
    "'*'": ["", "x", "longer"],
    "'**'": ["", "x"],
    "'?'": ["", "x", "xy", "ü"],
    "[one, two]": ["one", "two", "one two", "TWO one", "three"],
    "['a*b', 'c']": ["axb", "c", "axbc", "cab"],
}
TEXT_MODIFIERS = [
    "", "contains", "startswith", "endswith", "cased", "contains|cased", "startswith|cased", "endswith|cased", "contains|all", "all",
    "windash", "contains|windash", "startswith|windash", "contains|all|windash", "windash|contains", "windash|contains|all", "neq", "contains|neq",
]
EXPRESSIONS = {
    "'^a.c$'": ["abc", "ABC", "a\nc", "xabc", "a\nabc"],
    "'[a-c]{2}\\d'": ["ab1", "AB1", "xxbc9yy", "a1"],
    "'foo|bar'": ["foo", "a bar b", "FOO"],
    "['foo', 'ba+r']": ["foo", "baaar", "foo baar", "br"],
}
EXPRESSION_MODIFIERS = ["re", "re|i", "re|m", "re|s", "re|ignorecase", "re|multiline", "re|dotall", "re|i|m|s", "re|all", "re|neq"]
NUMBERS = {"404": [404, 40, 500], "'404'": [404, 405], "0": [0, 1], "-1": [-1, 1], "[200, 404]": [200, 404, 500], "4.5": [4, 5]}
NUMBER_MODIFIERS = ["", "lt", "lte", "gt", "gte", "neq"]
NETWORKS = {
    "'10.0.0.0/8'": ["10.1.2.3", "11.0.0.1"], "'192.168.1.0/24'": ["192.168.1.9", "192.168.2.1"], "'2001:db8::/32'": ["2001:db8::1", "2001:db9::1"],
    "['10.0.0.0/8', '172.16.0.0/12']": ["10.9.9.9", "172.31.0.1", "172.32.0.1"],
}
# Plain scalars that YAML 1.1, which pySigma reads, and YAML 1.2 take for different things.
SCALARS = [
    "yes", "no", "on", "off", "Yes", "NO", "On", "OFF", "y", "n", "true", "false", "True", "FALSE", "null", "~", "Null", "017", "0o17", "0x1F", "0b11",
    "1_000", "12:30:45", "1e3", "1.0e3", "1.5", ".5", "+7", "7.", "2026-11-20", "2026-11-20T09:00:00Z", ".inf", ".nan", "=", "<<", "1.2.3", "08", "0",
]
SCALAR_PROBES = {
    TEXT: ["yes", "no", "on", "off", "y", "n", "true", "false", "True", "null", "~", "", "017", "15", "0o17", "31", "0x1F", "3", "1_000", "1000", "12:30:45",
           "45045", "1e3", "1000.0", "1.5", "0.5", ".5", "+7", "7", "7.", "7.0", "2026-11-20", "0", "8", "08", "=", "1.2.3"],
    NUMBER: [0, 1, 3, 7, 8, 15, 17, 31, 1000, 45045],
    TRUTH: [True, False],
}


def combined(field, modifiers, value):
    key = f"{field}|{modifiers}" if modifiers else field
    return (
        "title: Held against pySigma\nid: 5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e10\nstatus: test\n"
        "logsource: {product: mcp, category: mcp_traffic}\n"
        f"detection:\n    held:\n        {key}: {value}\n    condition: held\nlevel: low\n"
    )


def pattern_of(text):
    parts = []
    for part in text.s:
        if part is SpecialChars.WILDCARD_MULTI:
            parts.append(".*")
        elif part is SpecialChars.WILDCARD_SINGLE:
            parts.append(".")
        else:
            parts.append(re.escape(part))
    return "".join(parts)


def fits(value, probe):
    """Whether a value that pySigma read fits a probe; an error where that is not said here."""
    if isinstance(value, SigmaExpansion):
        return any(fits(one, probe) for one in value.values)
    if isinstance(value, SigmaCasedString):
        return re.fullmatch(pattern_of(value), str(probe), re.S) is not None
    if isinstance(value, SigmaString):
        return re.fullmatch(pattern_of(value), str(probe), re.S | re.I) is not None
    if isinstance(value, SigmaRegularExpression):
        flags = 0
        for flag in value.flags:
            flags |= {"IGNORECASE": re.I, "MULTILINE": re.M, "DOTALL": re.S}[flag.name]
        return re.search(str(value.regexp), probe, flags) is not None
    if isinstance(value, SigmaCIDRExpression):
        return ipaddress.ip_address(probe) in ipaddress.ip_network(value.cidr)
    if isinstance(value, SigmaCompareExpression):
        bound = float(str(value.number))
        return {"LT": probe < bound, "LTE": probe <= bound, "GT": probe > bound, "GTE": probe >= bound}[value.op.name]
    if isinstance(value, SigmaNumber):
        if isinstance(probe, bool):
            return False
        try:
            return float(probe) == float(str(value))
        except ValueError:
            return False
    if isinstance(value, SigmaBool):
        return probe is value.boolean
    if isinstance(value, SigmaNull):
        return False
    raise NotImplementedError(type(value).__name__)


def expected(rule, probe):
    (item,) = rule.detection.detections["held"].detection_items
    values = item.value if isinstance(item.value, list) else [item.value]
    found = [fits(value, probe) for value in values]
    both = all if item.value_linking.__name__ == "ConditionAND" else any
    return both(found) != item.negated


def cases():
    for value, probes in STRINGS.items():
        for modifiers in TEXT_MODIFIERS:
            yield TEXT, modifiers, value, probes
    for value, probes in EXPRESSIONS.items():
        for modifiers in EXPRESSION_MODIFIERS:
            yield TEXT, modifiers, value, probes
    for value, probes in NUMBERS.items():
        for modifiers in NUMBER_MODIFIERS:
            yield NUMBER, modifiers, value, probes
    for value, probes in NETWORKS.items():
        for modifiers in ["cidr"]:
            yield ADDRESS, modifiers, value, probes
    for field, probes in SCALAR_PROBES.items():
        for value in SCALARS:
            yield field, "", value, probes


def quoted(probe):
    if isinstance(probe, bool):
        return "true" if probe else "false"
    if isinstance(probe, int):
        return str(probe)
    return '"' + probe.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def held(gnomon, folder, number, case):
    """None where both agree; a word of what happened, and a difference."""
    field, modifiers, value, probes = case
    name = f"{field}|{modifiers}: {value}" if modifiers else f"{field}: {value}"
    text = combined(field, modifiers, value)
    try:
        rule, tests = SigmaRule.from_yaml(text), []
        for probe in probes:
            match = "match" if expected(rule, probe) else "no_match"
            tests.append(f"        - observe: {{{field}: {quoted(probe)}}}\n          expect: {match}\n")
        refused = None
    except NotImplementedError:
        raise
    except Exception as error:  # pySigma has many of its own, and passes on those of YAML.
        refused, tests = f"{type(error).__name__}: {error}", []
    path = folder / f"rule_{number}.yml"
    path.write_text(text + "gnomon:\n    class: mcp\n" + ("    tests:\n" + "".join(tests) if tests else ""))
    done = subprocess.run([gnomon, "rules", "test", str(path)], capture_output=True, text=True, timeout=60)
    if done.returncode == 0:
        if refused and (modifiers, value) not in OURS:
            return "taken", f"{name}: pySigma refuses it ({refused}), gnomon takes it"
        return "same", None
    if "expects" in done.stderr:
        wrong = [line.split(": test ")[-1] for line in done.stderr.splitlines() if "expects" in line]
        at = [int(line.split(" ")[0]) - 1 for line in wrong]
        shown = ", ".join(f"{probes[n]!r} ({'match' if expected(rule, probes[n]) else 'no match'} by pySigma)" for n in at)
        return "differs", f"{name}: {shown}"
    if done.returncode == 3:
        return "refused", None
    return "failed", f"{name}: {done.stderr}"


def main():
    gnomon = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        work = [pool.submit(held, gnomon, Path(folder), number, case) for number, case in enumerate(cases())]
        results = [one.result() for one in work]
    counts = {}
    for outcome, difference in results:
        counts[outcome] = counts.get(outcome, 0) + 1
        if difference:
            print(difference)
    print(f"{len(results)} rules beside pySigma: " + ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
    return 1 if set(counts) - {"same", "refused"} else 0


if __name__ == "__main__":
    sys.exit(main())
