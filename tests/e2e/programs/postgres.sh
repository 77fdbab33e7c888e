. "$(dirname "$0")/lib.sh"
PATH="$PATH:$(printf '%s:' /usr/lib/postgresql/*/bin)"
need psql initdb postgres setpriv
# The server refuses to run as root.
as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
[ "$(id -u)" = 0 ] || as=(env)
PORT=$(free_port)
mkdir "$WORK/db" && cp "$WORK/cert.pem" "$WORK/key.pem" "$WORK/db" && chmod 600 "$WORK/db/key.pem"
[ "$(id -u)" != 0 ] || chown -R nobody "$WORK/db"
"${as[@]}" initdb -D "$WORK/db/data" -A trust -U ada --no-sync --no-locale -E UTF8 >/dev/null
serve "${as[@]}" postgres -D "$WORK/db/data" -p "$PORT" -k "" -c listen_addresses=127.0.0.1 -c fsync=off -c ssl=on \
    -c "ssl_cert_file=$WORK/db/cert.pem" -c "ssl_key_file=$WORK/db/key.pem"
ask() { psql -X -At "host=localhost port=$PORT user=ada dbname=postgres connect_timeout=10 $1" "${@:2}"; }
until_ok ask sslmode=disable -c 'select 1'

query='select ssl from pg_stat_ssl where pid = pg_backend_pid(); select count(*) from generate_series(1, 50000)'
psql=(psql -X -At)
for mode in disable:f allow:f prefer:t require:t; do
    to="host=localhost port=$PORT user=ada dbname=postgres connect_timeout=10 sslmode=${mode%:*}"
    same "$($UNDER "${psql[@]}" "$to" -c "$query")" "${mode#*:}
50000"
done
# The server's own certificate: this TLS is not ours to read, as it begins inside another protocol.
for mode in verify-ca verify-full; do
    same "$($UNDER "${psql[@]}" "$to sslmode=$mode sslrootcert=$CA" -c "$query")" "t
50000"
    # Whoever trusts somebody else is told by the server's certificate, as direct: 2 is psql's word for no connection.
    same "$(code_of $UNDER "${psql[@]}" "$to sslmode=$mode sslrootcert=$WORK/stranger.pem" -c "$query" 2>"$WORK/said")" 2
    grep -q 'SSL error' "$WORK/said"
done
# Much in both directions.
seq 200000 | $UNDER "${psql[@]}" "$to" -c 'create temp table t (n int); ' -c '\copy t from pstdin' -c 'select sum(n) from t' | tail -n 1 |
    grep -qx 20000100000
