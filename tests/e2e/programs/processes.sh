. "$(dirname "$0")/lib.sh"
need curl
web
# Ends as the program ends, and at once: what it left behind is its own business.
same "$(code_of $UNDER sh -c 'exit 42')" 42
for signal in TERM KILL SEGV INT; do
    same "$(code_of $UNDER sh -c "ulimit -c 0; kill -$signal \$\$" 2>/dev/null)" $((128 + $(kill -l "$signal")))
done
same "$(code_of $UNDER sh -c "(until [ -e '$WORK/go' ]; do sleep 0.02; done; curl -sS '$URL/hello' >'$WORK/late') >/dev/null 2>&1 & exit 3")" 3
test ! -e "$WORK/late"
touch "$WORK/go"
until_ok grep -q "hello from the server" "$WORK/late"

# One below another, and a whole pipeline of them.
same "$($UNDER $UNDER sh -c "curl -sS '$URL/hello'; exit 5" || echo "code $?")" "hello from the server
code 5"
same "$($UNDER curl -sS "$URL/hello" | $UNDER tr a-z A-Z)" "HELLO FROM THE SERVER"

# Descriptors, environment, folder and limits are the program's own.
cd "$WORK"
same "$(MINE="as it was" $UNDER sh -c 'echo "$MINE"; pwd; cat <&7' 7<<<"seven")" "as it was
$WORK
seven"
