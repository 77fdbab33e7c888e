. "$(dirname "$0")/lib.sh"
PATH="$PATH:/usr/sbin"
need mosquitto mosquitto_pub mosquitto_sub
PORT=$(free_port)
TLS_PORT=$(another_port)
# As whoever started it: it would take another user than root's to read the key.
printf '%s\n' 'user root' 'per_listener_settings false' 'allow_anonymous true' 'persistence false' 'log_dest stderr' 'log_type all' \
    "listener $PORT 127.0.0.1" "listener $TLS_PORT 127.0.0.1" "certfile $WORK/cert.pem" "keyfile $WORK/key.pem" >"$WORK/mosquitto.conf"
serve mosquitto -c "$WORK/mosquitto.conf"
until_ok mosquitto_pub -h localhost -p "$PORT" -t begun -n
head -c 3000000 /dev/urandom >"$WORK/data"

# Authorities are whose the environment says, so that ours is known under exec.
plain=(-h localhost -p "$PORT")
tls=(-h localhost -p "$TLS_PORT" --tls-use-os-certs)
# With a protocol of its own asked for, as clouds want it.
alpn=("${tls[@]}" --tls-alpn mqtt)
round=0
for road in plain tls alpn; do
    declare -n words=$road
    for version in mqttv311 mqttv5; do
        round=$((round + 1))
        # Kept by the server for whoever asks later.
        $UNDER mosquitto_pub "${words[@]}" -V "$version" -q 2 -r -t "kept/$round" -m "grüße $round"
        same "$($UNDER mosquitto_sub "${words[@]}" -V "$version" -q 2 -t "kept/$round" -C 1 -W 20)" "grüße $round"
        # The server speaks when somebody else has spoken, and the client says nothing until then.
        $UNDER mosquitto_sub "${words[@]}" -V "$version" -i "waiting-$round" -q 1 -t "late/$round" -C 1 -N -W 60 >"$WORK/came" 9>&- &
        waiting=$!
        until_ok grep -q "Sending SUBACK to waiting-$round" "$WORK/server.log"
        $UNDER mosquitto_pub "${words[@]}" -V "$version" -q 1 -t "late/$round" -f "$WORK/data"
        wait "$waiting"
        cmp "$WORK/data" "$WORK/came"
    done
    # Many messages over one connection: each line is one.
    seq 5000 | $UNDER mosquitto_pub "${words[@]}" -i "many-$road" -q 1 -t "many/$road" -l
    same "$(grep -c "Received PUBLISH from many-$road" "$WORK/server.log")" 5000
done
# Nothing was wanted, and the time for it ends as without us.
same "$(code_of $UNDER mosquitto_sub "${plain[@]}" -t nothing -C 1 -W 1 2>/dev/null)" 27
