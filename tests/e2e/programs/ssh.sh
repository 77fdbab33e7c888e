. "$(dirname "$0")/lib.sh"
need scp sftp script
sshd
same "$($UNDER ssh "${ssh_options[@]}" -p "$PORT" localhost 'echo "said there: $(cat)"; exit 0' <<<"said here")" "said there: said here"
same "$(code_of $UNDER ssh "${ssh_options[@]}" -p "$PORT" localhost 'exit 42')" 42
# A terminal there, and none here; then a terminal on both sides.
same "$($UNDER ssh -tt "${ssh_options[@]}" -p "$PORT" localhost 'test -t 0 && echo a terminal' </dev/null | tr -d '\r')" "a terminal"
line="$UNDER ssh -tt ${ssh_options[*]} -p $PORT localhost 'stty size'"
script -qec "stty rows 31 cols 97; $line" /dev/null </dev/null >"$WORK/said"
grep -q "31 97" "$WORK/said"

head -c 5000000 /dev/urandom >"$WORK/data"
$UNDER scp -q "${ssh_options[@]}" -P "$PORT" "$WORK/data" "localhost:$WORK/sent"
$UNDER scp -q "${ssh_options[@]}" -P "$PORT" "localhost:$WORK/sent" "$WORK/back"
cmp "$WORK/data" "$WORK/back"
printf 'get %s %s\n' "$WORK/data" "$WORK/fetched" | $UNDER sftp -q "${ssh_options[@]}" -P "$PORT" -b - localhost >/dev/null
cmp "$WORK/data" "$WORK/fetched"
