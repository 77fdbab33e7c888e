# What the scenarios share. A scenario is a script that does what a person would, with $UNDER in front of the program: nothing,
# or `gnomon exec ...`. It ends with 0 if all was as it should be, with 77 and a reason where a program is missing.
#
#   UNDER  the words in front      WORK  an empty folder, gone afterwards
#   CA     a certificate file that is to be trusted; WORK/cert.pem and WORK/key.pem are a server's, for `localhost`, WORK/address.pem and
#          WORK/address-key.pem another's, for 127.0.0.1; WORK/stranger.pem is of an authority that vouches for neither
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
# Nobody's own settings, and no proxy of the host's: what is reached is on this machine.
export HOME="$WORK/home" LC_ALL=C
export GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0 PIP_CONFIG_FILE=/dev/null PIP_DISABLE_PIP_VERSION_CHECK=1
export npm_config_userconfig="$HOME/.npmrc" npm_config_cache="$WORK/npm" npm_config_audit=false npm_config_fund=false
export npm_config_update_notifier=false npm_config_cafile="$CA"
unset HTTP_PROXY HTTPS_PROXY http_proxy https_proxy ALL_PROXY all_proxy
mkdir -p "$HOME"
for variable in SSL_CERT_FILE CURL_CA_BUNDLE NODE_EXTRA_CA_CERTS GIT_SSL_CAINFO REQUESTS_CA_BUNDLE PIP_CERT; do
    export "$variable=$CA"
done

# What was done, and at which second: told by the test where a scenario fails.
exec 9>"$WORK/trace"
BASH_XTRACEFD=9 PS4='+ ${SECONDS}s '
set -x

need() {
    local missing=()
    for program in "$@"; do
        command -v "$program" >/dev/null 2>&1 || missing+=("${program##*/}")
    done
    [ ${#missing[@]} = 0 ] || { echo "no ${missing[*]}"; exit 77; }
}

# Starts a server of the scenario, ended with it. It is not under gnomon: only programs are.
servers=()
serve() { "$@" >>"$WORK/server.log" 2>&1 9>&- & servers+=("$!"); }
finish() {
    local code=$?
    if [ ${#servers[@]} -gt 0 ]; then
        kill "${servers[@]}" 2>/dev/null || true
        wait "${servers[@]}" 2>/dev/null || true
    fi
    if [ "$code" != 0 ] && [ "$code" != 77 ] && [ -e "$WORK/server.log" ]; then
        echo "--- what the servers said:" >&2
        tail -n 40 "$WORK/server.log" >&2
    fi
    exit "$code"
}
trap finish EXIT

# Waits until a command succeeds.
until_ok() {
    for _ in $(seq 400); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.05
    done
    echo "waited 20 s for: $*" >&2
    return 1
}

same() {
    if [ "$1" != "$2" ]; then
        printf 'expected: %s\nfound:    %s\n' "$2" "$1" >&2
        return 1
    fi
}

# The exit code of a command, which may be any.
code_of() {
    local code=0
    "$@" || code=$?
    echo "$code"
}

free_port() { echo "$FREE_PORT"; }
# For what has a port of its own for TLS.
another_port() { echo "$ANOTHER_PORT"; }

# HTTPS on PORT: a git repository, a Python index and an npm registry, all made here.
web() {
    need python3
    serve python3 "$HERE/web.py" "$WORK"
    until_ok test -s "$WORK/port"
    PORT=$(cat "$WORK/port")
    URL="https://localhost:$PORT"
}

# An sshd on PORT that lets this user in with the key WORK/key; `ssh_options` leads there.
sshd() {
    need ssh ssh-keygen /usr/sbin/sshd
    ssh-keygen -q -t ed25519 -N '' -f "$WORK/key" && cp "$WORK/key.pub" "$WORK/authorized"
    ssh-keygen -q -t ed25519 -N '' -f "$WORK/host"
    PORT=$(free_port)
    # The folder that sshd wants for its unprivileged part; Debian makes it when the service starts.
    [ "$(id -u)" != 0 ] || mkdir -p /run/sshd
    printf '%s\n' "Port $PORT" 'ListenAddress 127.0.0.1' "HostKey $WORK/host" "AuthorizedKeysFile $WORK/authorized" \
        'StrictModes no' 'UsePAM no' 'PermitRootLogin yes' 'PidFile none' 'Subsystem sftp internal-sftp' >"$WORK/sshd_config"
    serve /usr/sbin/sshd -D -e -f "$WORK/sshd_config"
    printf '[localhost]:%s %s\n' "$PORT" "$(cut -d' ' -f1,2 "$WORK/host.pub")" >"$WORK/known"
    ssh_options=(-F /dev/null -i "$WORK/key" -o IdentitiesOnly=yes -o UserKnownHostsFile="$WORK/known" -o BatchMode=yes -o LogLevel=ERROR)
    until_ok ssh "${ssh_options[@]}" -p "$PORT" localhost true
}
