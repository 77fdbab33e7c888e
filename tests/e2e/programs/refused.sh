. "$(dirname "$0")/lib.sh"
need python3
port=$(free_port)
# Where nobody listens on loopback, a connection is refused as it would be without gnomon.
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
same "$said" ConnectionRefusedError
if command -v curl >/dev/null; then
    code=$(code_of $UNDER curl -sS "https://127.0.0.1:$port/" 2>/dev/null)
    same "$code" 7
fi
