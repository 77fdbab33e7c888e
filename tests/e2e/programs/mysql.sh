. "$(dirname "$0")/lib.sh"
PATH="$PATH:/usr/sbin"
need mariadb mariadbd mariadb-install-db setpriv
as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
[ "$(id -u)" = 0 ] || as=(env)
PORT=$(free_port)
mkdir "$WORK/db" && cp "$WORK/cert.pem" "$WORK/key.pem" "$WORK/db" && chmod 600 "$WORK/db/key.pem"
[ "$(id -u)" != 0 ] || chown -R nobody "$WORK/db"
"${as[@]}" mariadb-install-db --no-defaults --datadir="$WORK/db/data" --auth-root-authentication-method=normal --skip-test-db >>"$WORK/server.log" 2>&1
serve "${as[@]}" mariadbd --no-defaults --datadir="$WORK/db/data" --port="$PORT" --bind-address=127.0.0.1 --socket="$WORK/db/socket" \
    --pid-file="$WORK/db/pid" --ssl-cert="$WORK/db/cert.pem" --ssl-key="$WORK/db/key.pem"
ask=(mariadb --no-defaults --protocol=tcp --host=localhost --port="$PORT" --user=root --batch --skip-column-names)
until_ok "${ask[@]}" --skip-ssl -e 'select 1'

same "$($UNDER "${ask[@]}" --skip-ssl -e "select 6 * 7; show status like 'Ssl_version'" | tr -d '\t')" "42
Ssl_version"
$UNDER "${ask[@]}" --ssl --ssl-ca="$CA" --ssl-verify-server-cert -e "select 6 * 7; show status like 'Ssl_version'" | tail -n 1 |
    grep -q TLSv1
# A result of several megabytes.
same "$($UNDER "${ask[@]}" --skip-ssl -e "select length(repeat('x', 4000000)), repeat('x', 4000000)" | wc -c)" 4000009
