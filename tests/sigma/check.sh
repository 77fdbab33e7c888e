#!/usr/bin/env bash
# Proves that every shipped rule is valid Sigma and portable: the official linter finds no error and
# no issue, and the official converters turn each rule into Splunk and Lucene queries.
#
#   tests/sigma/check.sh [FILE_OR_FOLDER ...]      default: all shipped packs
#
# Needs Python 3.10 or newer with venv. The tools go to target/sigma, pinned by requirements.txt.
# Not proven here: that a rule matches what it should. Its embedded tests say that, and gnomon runs
# them.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
venv="$root/target/sigma"

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
    local target=$1
    shift
    if "$venv/bin/sigma" convert -t "$target" --without-pipeline "$@" >/dev/null 2>&1; then
        echo "$target: $# rules converted"
        return
    fi
    local file output
    for file in "$@"; do
        output=$("$venv/bin/sigma" convert -t "$target" --without-pipeline "$file" 2>&1) \
            || echo "$target: $file: ${output##*$'\n'}" >&2
    done
    return 1
}

main() {
    local places=("$@")
    if ((${#places[@]} == 0)); then
        places=("$root/rules/packs/shadow-mcp" "$root/rules/packs/examples" "$root/rules/packs/baseline-cloudflare")
    fi
    local rules=() comparable=() file
    mapfile -t rules < <(find "${places[@]}" -name '*.yml' | sort)
    if ((${#rules[@]} == 0)); then
        echo "no rule files in ${places[*]}" >&2
        return 1
    fi
    # Lucene cannot compare two fields; Splunk covers those rules.
    for file in "${rules[@]}"; do
        grep -q '|fieldref' "$file" || comparable+=("$file")
    done

    install_tools
    prove_linter_refuses
    lint "${rules[@]}"
    convert splunk "${rules[@]}"
    convert lucene "${comparable[@]}"
}

main "$@"
