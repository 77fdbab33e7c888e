# What is installed; sourced by `.ci/run`. Each only where it is missing.

have() { command -v "$1" >/dev/null 2>&1; }

install() {
    [ $# -gt 0 ] || return 0
    echo "installing $*"
    apt-get update -qq
    # No service is wanted: only the programs.
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    rm -f /usr/sbin/policy-rc.d
}

# What the README's commands need besides Rust, and git.
compilers() {
    local need=()
    have git || need+=(git)
    have cc || need+=(gcc libc6-dev)
    have make || need+=(make)
    have cmake || need+=(cmake)
    install "${need[@]}"
}

# What tests need, as listed for whoever has to install it by hand, and what chores need.
packages() {
    local need=() program package
    # Servers are where they are.
    PATH=$PATH:/usr/sbin:/sbin:$(printf '%s:' /usr/lib/postgresql/*/bin)
    while read -r program package; do
        # It brings 86 MB for one test.
        [ "$package" = podman ] || have "$program" || need+=("$package")
    done < <(sed -n '/^\[programs\]$/,$s/"//gp' tests/allowed-skips.toml | sed 's/ = / /')
    have qemu-system-x86_64 || need+=(qemu-system-x86)
    have busybox || need+=(busybox-static)
    have buildah || need+=(buildah)
    have cpio || need+=(cpio)
    have mmdebstrap || need+=(mmdebstrap)
    have systemd-nspawn || need+=(systemd-container)
    install "${need[@]}"
}

# Built with little optimisation, as each runs for seconds, and kept in cargo's own folder.
tools() {
    export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0
    cargo deny --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-deny --version 0.20.2
    cargo fuzz --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-fuzz --version 0.13.2
}
