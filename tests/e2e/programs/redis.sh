. "$(dirname "$0")/lib.sh"
need redis-cli redis-server
PORT=$(free_port)
TLS_PORT=$(another_port)
serve redis-server --bind 127.0.0.1 --port "$PORT" --tls-port "$TLS_PORT" --tls-cert-file "$WORK/cert.pem" --tls-key-file "$WORK/key.pem" \
    --tls-ca-cert-file "$CA" --tls-auth-clients no --save '' --appendonly no --dir "$WORK"
ask=(redis-cli -h localhost -p "$PORT")
# Authorities are whose the environment says, so that ours is known under exec.
ask_tls=(redis-cli -h localhost -p "$TLS_PORT" --tls --sni localhost)
until_ok "${ask[@]}" ping

for road in ask ask_tls; do
    declare -n words=$road
    same "$($UNDER "${words[@]}" ping)" PONG
    same "$($UNDER "${words[@]}" -3 set "greeting $road" 'grüße aus')" OK
    same "$($UNDER "${words[@]}" get "greeting $road")" 'grüße aus'
    # A server that refuses to do it is heard as well.
    same "$($UNDER "${words[@]}" lpush "greeting $road" x)" 'WRONGTYPE Operation against a key holding the wrong kind of value'

    # Many commands, none of which waits for the answer to the one before.
    "${ask[@]}" flushall >/dev/null
    for n in $(seq 50000); do echo "SET key$n $n"; done | $UNDER "${words[@]}" --pipe | tail -n 1 >"$WORK/said"
    same "$(cat "$WORK/said")" 'errors: 0, replies: 50000'
    same "$("${ask[@]}" dbsize)" 50000

    # Much in both directions.
    head -c 3000000 /dev/urandom | base64 -w 0 >"$WORK/data"
    same "$($UNDER "${words[@]}" -x set data <"$WORK/data")" OK
    same "$($UNDER "${words[@]}" get data | head -c -1 | md5sum)" "$(md5sum <"$WORK/data")"

    # The server answers when somebody else has come, and the client says nothing until then.
    $UNDER "${words[@]}" blpop queue 20 >"$WORK/popped" 9>&- &
    waiting=$!
    until_ok eval '"${ask[@]}" info clients | grep -q blocked_clients:1'
    same "$($UNDER "${words[@]}" rpush queue 'what came late')" 1
    wait "$waiting"
    same "$(cat "$WORK/popped")" "queue
what came late"
done
# Without TLS at the port that wants it: refused as direct.
same "$(code_of $UNDER timeout 10 redis-cli -h localhost -p "$TLS_PORT" ping 2>/dev/null)" 1
