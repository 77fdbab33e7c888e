#!/usr/bin/env bash
# The README's first command, as a newcomer runs it: starts, listens, proxies one request, counts it, stops.
set -euo pipefail
cd "$(dirname "$0")/.."
state=$(mktemp -d)
out=$(mktemp)
trap 'kill "$pid" 2>/dev/null || true; rm -rf "$state" "$out"' EXIT
cargo run --release --locked -- run --state-dir "$state" --listen 127.0.0.1:18443 --metrics 127.0.0.1:19464 >"$out" 2>&1 &
pid=$!
for _ in $(seq 300); do
    curl -sf --noproxy '*' http://127.0.0.1:19464/healthz >/dev/null && break
    kill -0 "$pid" 2>/dev/null || { cat "$out"; echo "gnomon ended by itself"; exit 1; }
    sleep 0.2
done
# A plain-HTTP MCP message to a server that is not there: nothing answers, and it is an event all the same.
code=$(curl -s -o /dev/null -w '%{http_code}' -x http://127.0.0.1:18443 --noproxy '' -H 'content-type: application/json' \
    -d '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}' http://127.0.0.2:1/mcp || true)
[ "$code" = 502 ] || { cat "$out"; echo "expected 502 from the proxy, got $code"; exit 1; }
metrics=$(curl -sf --noproxy '*' http://127.0.0.1:19464/metrics)
if command -v promtool >/dev/null; then promtool check metrics <<<"$metrics"; else echo "SKIPPED promtool: not installed"; fi
grep -q '^gnomon_rules_loaded [1-9]' <<<"$metrics"
grep -Eq '^gnomon_mcp_messages_total\{.*method="tools/call".*\} 1$' <<<"$metrics"
[ "$(stat -c %a "$state/ca.key")" = 600 ]
kill -TERM "$pid"
wait "$pid" || { cat "$out"; echo "gnomon did not end well"; exit 1; }
pid=
cargo run --release --locked -q -- events --state-dir "$state" --json | grep -q '"gen_ai.tool.name":"echo"'
cargo run --release --locked -q -- inventory --state-dir "$state" | grep -q 127.0.0.2
echo "smoke: ok"
