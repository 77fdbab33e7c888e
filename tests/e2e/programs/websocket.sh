. "$(dirname "$0")/lib.sh"
need python3 node
serve python3 "$HERE/websocket.py" serve "$WORK"
until_ok test -s "$WORK/ports"
read -r plain tls <"$WORK/ports"
kept=0
for url in "ws://localhost:$plain/things" "wss://localhost:$tls/things"; do
    # Numbers are the server's count of what it has kept: it acted once for each.
    same "$($UNDER python3 "$HERE/websocket.py" ask "$url")" "hello $((kept + 1)) $((kept + 2)) $((kept + 3)) the same there late closed"
    kept=$((kept + 3))
    same "$(wc -l <"$WORK/things")" "$kept"
done

# Node's own: from its version 22 on, before that by an option or not at all.
node=(node)
has_websocket() { "${node[@]}" -e 'process.exit(typeof WebSocket === "function" ? 0 : 1)' 2>/dev/null; }
has_websocket || node=(node --no-warnings --experimental-websocket)
if has_websocket; then
    talk='
        const said = [], socket = new WebSocket(process.argv[1]), things = ["from node", "grüße", "x".repeat(70000)];
        socket.onmessage = ({data}) => {
            said.push(data);
            things.length ? socket.send(things.shift()) : socket.close(1000);
        };
        socket.onclose = ({code}) => console.log(...said, code);
        socket.onerror = ({error}) => console.log("error", error);'
    for url in "ws://localhost:$plain/things" "wss://localhost:$tls/things"; do
        same "$($UNDER "${node[@]}" -e "$talk" "$url")" "hello $((kept + 1)) $((kept + 2)) $((kept + 3)) 1000"
        kept=$((kept + 3))
        same "$(wc -l <"$WORK/things")" "$kept"
    done
fi
