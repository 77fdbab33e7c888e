. "$(dirname "$0")/lib.sh"
need python3 bash
python3 "$HERE/terminal.py"
