# Steps, and lanes beside them; sourced by `.ci/run`.
#
# A step runs by itself and prints as it goes. A lane runs beside steps, for what mostly waits: its log is printed when it ends, and
# one that fails ends the run at once. The times of all are printed at the end, however the run ends.

began=$EPOCHSECONDS
work=$(mktemp -d)
names=()             # In the order in which they began.
declare -A lane_pids # Lanes that run or have not been read yet.
step_pid=
# Each job has a process group of its own, so that all of it can be ended.
set -m

# One job: its output where the caller sends it, its times and its status in files. Never part of a condition, as bash would then let
# failing commands pass.
job() {
    local name=$1 on_failure=$2
    shift 2
    (
        # What it starts stays in its group.
        set +m
        trap - EXIT USR1
        # A program that outlives the run must not keep the cache to itself.
        [ -z "${cache_lock:-}" ] || exec {cache_lock}>&-
        status=0
        printf '%s\n' "$EPOCHREALTIME" >"$work/$name.began"
        ( set -e; "$@" ) &
        wait $! || status=$?
        printf '%s\n' "$EPOCHREALTIME" >"$work/$name.ended"
        times >"$work/$name.times"
        printf '%s\n' "$status" >"$work/$name.status"
        [ "$status" = 0 ] || "$on_failure"
        exit "$status"
    )
}
interrupt() { kill -USR1 $$; }

# step NAME COMMAND...: nothing else is begun before it ends.
step() {
    local name=$1 status=0
    shift
    printf '\n=== %s (%ss)\n' "$name" "$((EPOCHSECONDS - began))"
    names+=("$name")
    job "$name" true "$@" &
    step_pid=$!
    # A lane that fails interrupts this by a signal.
    wait "$step_pid" || status=$?
    step_pid=
    read_ended_lanes
    [ "$status" = 0 ] || fail "$name"
}

# lane NAME COMMAND...: runs beside what follows, until `join NAME`.
lane() {
    local name=$1
    shift
    printf '\n=== %s begins beside what follows (%ss)\n' "$name" "$((EPOCHSECONDS - began))"
    names+=("$name")
    job "$name" interrupt "$@" >"$work/$name.log" 2>&1 &
    lane_pids[$name]=$!
}

# join NAME...: waits for lanes.
join() {
    local name
    for name in "$@"; do
        # It may have been read already.
        [ -n "${lane_pids[$name]:-}" ] || continue
        wait "${lane_pids[$name]}" || true
        read_lane "$name"
    done
}

read_ended_lanes() {
    local name
    for name in "${!lane_pids[@]}"; do
        [ ! -e "$work/$name.status" ] || read_lane "$name"
    done
}

# Prints what a lane said; one that failed ends the run.
read_lane() {
    local name=$1
    unset "lane_pids[$name]"
    printf '\n=== %s, which ran beside, has ended (%ss)\n' "$name" "$((EPOCHSECONDS - began))"
    cat "$work/$name.log"
    [ "$(cat "$work/$name.status" 2>/dev/null || echo none)" = 0 ] || fail "$name"
}

fail() {
    failed=$1
    printf '\n=== FAILED: %s\n' "$1"
    exit 1
}

# What the failed lane said last, once more: where only the end of the output is kept, it is there.
why() {
    [ -n "${failed:-}" ] && [ -s "$work/$failed.log" ] || return 0
    printf '\n=== %s failed; the end of what it said:\n' "$failed"
    tail -n 40 "$work/$failed.log" | cut -c1-1000
}

# Ends what still runs, and prints the times.
finish() {
    local status=$? name pid
    trap - EXIT USR1
    # Bash need not tell that they were ended.
    disown -a
    for pid in $step_pid "${lane_pids[@]}"; do
        kill -TERM -- "-$pid" 2>/dev/null || true
    done
    [ -n "${printed:-}" ] || table
    why
    rm -rf "$work"
    exit "$status"
}

# wall: seconds from begin to end; CPU: what its processes took of all processors, as far as they were waited for.
table() {
    local name
    printf '\n%-52s %8s %8s %8s\n' "step (+ ran beside others)" "began" "wall s" "CPU s"
    for name in "${names[@]}"; do
        local mark=""
        [ ! -e "$work/$name.log" ] || mark="+ "
        awk -v name="$mark$name" -v began="$(cat "$work/$name.began" 2>/dev/null)" -v ended="$(cat "$work/$name.ended" 2>/dev/null)" \
            -v start="$began" -v times="$(cat "$work/$name.times" 2>/dev/null | tr '\n' ' ')" 'BEGIN {
                cpu = 0; n = split(times, parts, " ")
                for (i = 1; i <= n; i++) { split(parts[i], t, /[ms]/); cpu += t[1] * 60 + t[2] }
                printf "%-52s %8d %8s %8d\n", name, began - start, ended == "" ? "cut" : sprintf("%.0f", ended - began), cpu }'
    done
}

trap finish EXIT
trap read_ended_lanes USR1
trap 'exit 130' INT TERM
