# Where the run builds; sourced by `.ci/run`. Sets and exports CARGO_TARGET_DIR; `cold` is empty where dependencies of an earlier run are in it.
#
# Outside the checkout, so that the next run finds dependencies built, in a folder named by all that decides whether they are the same:
# lock files, compiler, profiles. Our own crates are built anew in each run, as cargo tells a changed file by its time and a checkout
# may be older than what another one left. Bounds: one folder, at most GNOMON_CI_CACHE_GB, used by one run at a time; another run
# meanwhile builds in its checkout.

cold=yes
use_cache() {
    export CARGO_TARGET_DIR="$PWD/target"
    local default=${XDG_CACHE_HOME:-${HOME:-}/.cache}
    # Tests run what is built as other users too, who may not look into root's home.
    [ "$(id -u)" != 0 ] || default=/var/cache
    local home=${GNOMON_CI_CACHE-$default/gnomon-ci}
    if [[ $home != /* ]] || ! mkdir -p "$home" 2>/dev/null || ! [ -w "$home" ]; then
        echo "no cache: building in $CARGO_TARGET_DIR"
        return
    fi
    exec {cache_lock}>"$home/lock"
    if ! flock -n "$cache_lock"; then
        echo "another run uses $home: building in $CARGO_TARGET_DIR"
        return
    fi
    local key folder size
    key=$(inputs | sha256sum | cut -c1-16)
    for folder in "$home"/*/; do
        [ "$folder" = "$home/$key/" ] || rm -rf "$folder"
    done
    export CARGO_TARGET_DIR="$home/$key"
    [ -d "$CARGO_TARGET_DIR" ] || return 0
    size=$(du -s --block-size=1G "$CARGO_TARGET_DIR" | cut -f1)
    if [ "$size" -ge "${GNOMON_CI_CACHE_GB:-20}" ]; then
        echo "$CARGO_TARGET_DIR has $size GB: begun anew"
        rm -rf "$CARGO_TARGET_DIR"
        return
    fi
    cold=
    echo "dependencies of an earlier run are in $CARGO_TARGET_DIR ($size GB)"
    # What cargo has no fingerprint of it builds.
    find "$CARGO_TARGET_DIR" -path '*/.fingerprint/*' -prune \( -name 'gnomon*' -o -name 'xtask*' \) -exec rm -rf {} +
    # The newest kernel, and Debian with its updates, are of this week.
    find "$CARGO_TARGET_DIR"/{kernels,package} -maxdepth 2 \( -name vmlinuz -o -name '*.tar' \) -mtime +7 -delete 2>/dev/null || true
}

inputs() {
    rustc -vV
    cat Cargo.lock bench/Cargo.lock fuzz/Cargo.lock
    sed -n '/^\[profile/,/^$/p' Cargo.toml bench/Cargo.toml fuzz/Cargo.toml
    printf '%s\n' "${RUSTFLAGS:-}"
}
