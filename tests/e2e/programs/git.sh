. "$(dirname "$0")/lib.sh"
need git
web
git init -q --bare -b main "$WORK/things.git"
git -C "$WORK/things.git" config http.receivepack true
git config --global user.name Ada && git config --global user.email ada@example.org && git config --global protocol.version 2

git init -q -b main "$WORK/first"
# More than one pack's worth of pipe buffers.
head -c 3000000 /dev/urandom >"$WORK/first/data"
git -C "$WORK/first" add data && git -C "$WORK/first" commit -q -m "Begin"
$UNDER git -C "$WORK/first" push -q "$URL/git/things.git" main
$UNDER git clone -q "$URL/git/things.git" "$WORK/over-https"
cmp "$WORK/first/data" "$WORK/over-https/data"

sshd
export GIT_SSH_COMMAND="ssh ${ssh_options[*]}"
$UNDER git clone -q "ssh://localhost:$PORT$WORK/things.git" "$WORK/over-ssh"
cmp "$WORK/first/data" "$WORK/over-ssh/data"
