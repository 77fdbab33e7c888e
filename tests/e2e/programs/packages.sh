. "$(dirname "$0")/lib.sh"
need python3 npm
web
python=python3
if ! python3 -m pip --version >/dev/null 2>&1; then
    python3 -m venv "$WORK/venv" || { echo "no pip and no venv"; exit 77; }
    python="$WORK/venv/bin/python"
fi
$UNDER "$python" -m pip download -q --no-deps --index-url "$URL/simple/" -d "$WORK/wheels" stand-in
test -s "$WORK/wheels/stand_in-1.0-py3-none-any.whl"

same "$($UNDER npm view --registry "$URL/npm/" stand-in version)" "1.0.0"
mkdir "$WORK/project" && cd "$WORK/project"
$UNDER npm install --silent --registry "$URL/npm/" stand-in
same "$(node -p 'require("stand-in")')" "installed"
