. "$(dirname "$0")/lib.sh"
need python3
port=$(free_port)
# A redirected connection is made before the server is asked, so its refusal comes as a reset, before any byte.
said=$($UNDER python3 - "$port" <<'P'
import socket, sys
try:
    stream = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10)
    stream.settimeout(10)
    print("read", stream.recv(1))
except (ConnectionRefusedError, ConnectionResetError) as error:
    print(type(error).__name__)
P
)
case "$UNDER" in
*--no-redirect* | "") same "$said" ConnectionRefusedError ;;
*) same "$said" ConnectionResetError ;;
esac
if command -v curl >/dev/null; then
    code=$(code_of $UNDER curl -sS "https://127.0.0.1:$port/" 2>/dev/null)
    case "$code" in 7 | 35 | 56) ;; *) same "$code" "7 (no connection) or 35, 56 (reset)" ;; esac
fi
