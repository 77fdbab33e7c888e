. "$(dirname "$0")/lib.sh"
need curl python3 node
web
same "$($UNDER curl -sS "$URL/hello")" "hello from the server"
same "$($UNDER python3 -c 'import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode().strip())' "$URL/hello")" \
    "hello from the server"
same "$($UNDER node -e 'require("https").get(process.argv[1], a => a.pipe(process.stdout))' "$URL/hello")" "hello from the server"
# What is piped through a program comes out at the other end.
same "$(seq 100000 | $UNDER cat | md5sum)" "$(seq 100000 | md5sum)"
