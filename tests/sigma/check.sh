#!/usr/bin/env bash
# Proves that every shipped rule is valid Sigma and portable: the official linter finds no error and
# no issue, the official converters turn each rule into Splunk, Lucene and Loki queries, and a filter is
# combined with its rule as gnomon does it: both must hold.
#
#   tests/sigma/check.sh [FILE_OR_FOLDER ...]      default: all shipped packs
#
# Needs Python 3.10 or newer with venv. The tools go to sigma in cargo's target folder, pinned by requirements.txt.
# Not proven here: that a rule matches what it should. Its embedded tests say that, and gnomon runs
# them.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
venv="${CARGO_TARGET_DIR:-$root/target}/sigma"

# Both validators download ATT&CK and D3FEND data; without them the linter works offline.
offline=(-x attacktag -x d3_fendtag)

install_tools() {
    local stamp="$venv/requirements.txt"
    cmp -s "$here/requirements.txt" "$stamp" && return
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --no-deps --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$stamp"
}

lint() {
    "$venv/bin/sigma" check --fail-on-issues --fail-on-error "${offline[@]}" "$@"
}

# A linter that cannot fail proves nothing: an unknown tag namespace must be refused.
prove_linter_refuses() {
    local folder
    folder=$(mktemp -d)
    sed 's/^level:/tags:\n    - nosuchnamespace.tag\nlevel:/' \
        "$root/rules/packs/shadow-mcp/mcp_malformed_sanctioned.yml" \
        | sed '/^    - attack\.t1001$/d; 0,/^tags:$/{//d}' >"$folder/canary_rule.yml"
    if lint "$folder" >"$folder/output" 2>&1 || ! grep -q 'InvalidNamespaceTagIssue' "$folder/output"; then
        cat "$folder/output"
        echo "the linter did not refuse an unknown tag namespace" >&2
        rm -r "$folder"
        return 1
    fi
    rm -r "$folder"
}

# All files in one call; only a failure is worth one call per file, to name the culprit.
convert() {
    local target=$1 pipeline=(--without-pipeline)
    shift
    # Loki knows no truths.
    [[ $target == loki ]] && pipeline=(-p "$root/deploy/sigma/loki.yml")
    if "$venv/bin/sigma" convert -t "$target" "${pipeline[@]}" "$@" >/dev/null 2>&1; then
        echo "$target: $# rules converted"
        return
    fi
    local file output
    for file in "$@"; do
        output=$("$venv/bin/sigma" convert -t "$target" "${pipeline[@]}" "$file" 2>&1) \
            || echo "$target: $file: ${output##*$'\n'}" >&2
    done
    return 1
}

# What pySigma makes of a rule with an exception; a document with our keys must pass its linter.
prove_filters_combine() {
    local folder query
    folder=$(mktemp -d)
    cp "$root/rules/packs/shadow-mcp/shadow_mcp_message.yml" "$folder/"
    cat >"$folder/mf_not_ada.yml" <<'FILTER'
title: Not ada
id: 7a0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e10
description: An exception that shows how filters combine.
date: 2026-11-20
logsource:
    product: mcp
    category: mcp_traffic
filter:
    rules:
        - a06d0be7-29e6-427c-8e90-673c481c5fac
    selection:
        user.name: ada
    condition: not selection
gnomon:
    owner: platform
    reason: 'Approved'
    expires: 2099-06-30
FILTER
    lint "$folder/mf_not_ada.yml" >/dev/null
    query=$("$venv/bin/sigma" convert -t lucene --without-pipeline "$folder" 2>/dev/null)
    rm -r "$folder"
    if [[ $query != *"(_exists_:mcp.method.name AND (NOT gnomon.sanctioned:true)) AND (NOT user.name:ada)"* ]]; then
        echo "pySigma combines rule and filter otherwise: $query" >&2
        return 1
    fi
    echo "lucene: rule and filter combined"
}

main() {
    local places=("$@")
    if ((${#places[@]} == 0)); then
        places=("$root/rules/packs")
    fi
    local rules=() comparable=() present=() file
    mapfile -t rules < <(find "${places[@]}" -name '*.yml' | sort)
    if ((${#rules[@]} == 0)); then
        echo "no rule files in ${places[*]}" >&2
        return 1
    fi
    # Lucene cannot compare two fields, and Loki cannot ask for what is absent besides; Splunk covers those rules.
    for file in "${rules[@]}"; do
        grep -q '|fieldref' "$file" || comparable+=("$file")
        grep -qE '\|fieldref|exists: false' "$file" || present+=("$file")
    done

    install_tools
    prove_linter_refuses
    lint "${rules[@]}"
    convert splunk "${rules[@]}"
    convert lucene "${comparable[@]}"
    convert loki "${present[@]}"
    prove_filters_combine
}

main "$@"
