# What the machine must have: the list, and how the missing part comes from the distribution. Sourced by setup.sh and env.sh.
# shellcheck shell=bash

# Packages whose purpose is missing on this machine, in Debian's and Ubuntu's names. Probed by what is used of each,
# not by package name: a tool from elsewhere is as good.
missing_packages() {
    have clang || echo clang                                  # compiles bpf/ and the programs of `make bench`
    have llvm-strip || have llvm-strip-14 || echo llvm        # strips debug sections, keeps BTF
    [ -e /usr/include/bpf/bpf_helpers.h ] || echo libbpf-dev  # helper declarations for bpf/
    [ -e /usr/include/stdio.h ] || echo libc6-dev             # the same programs, and the kernel's own headers
    ldconfig_has libbpf.so.1 || echo libbpf1                  # the loader (ctypes)
    bpftool_path >/dev/null || bpftool_packages               # BTF and skeletons; looking into a live host
    have ip && have tc || echo iproute2                       # namespaces, links
    have ethtool || echo ethtool                              # offloads of veth pairs
    have tcpdump || echo tcpdump                              # packet proofs in the tests
    have ping || echo iputils-ping                            # probes by hand
    have curl || echo curl                                    # the same, as README.md shows
    have nsenter && have unshare && have flock || echo util-linux
    have make || echo make
    have runc || echo runc                                    # starts the containers of a local cluster
    have nft || echo nftables                                 # its hosts' ports that are pods' (hostPort)
    if ! users_pulumi >/dev/null && [ ! -e /etc/ssl/certs/ca-certificates.crt ]; then
        echo ca-certificates                                  # Go's downloads
    fi
}

# Not from PATH: a bare environment has no /sbin there.
ldconfig_has() { PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -F "$1" >/dev/null; }

# Ubuntu's /usr/sbin/bpftool only looks for the build that fits the running kernel, and fails in a container or on a
# foreign kernel. The tool works with any kernel, so any build will do.
bpftool_path() {
    local each
    for each in "$(type -P bpftool || true)" /usr/sbin/bpftool /usr/lib/linux-tools/*/bpftool /usr/lib/linux-tools-*/bpftool; do
        [ -n "$each" ] && "$each" version >/dev/null 2>&1 && printf '%s\n' "$each" && return 0
    done
    return 1
}

bpftool_packages() {
    # Debian, and Ubuntu from 24.10 on, have a package of that name; earlier Ubuntu has it among the kernel's tools.
    # Read from os-release: the package lists may not have been fetched yet.
    local ID='' VERSION_ID=''
    [ -r /etc/os-release ] && . /etc/os-release
    if [ "$ID" = ubuntu ] && ! version_at_least "$VERSION_ID" 24.10; then
        echo linux-tools-common linux-tools-generic
    else
        echo bpftool
    fi
}

# Distributions allow a user 128 inotify instances, and a cluster takes some 40. Where this may not be changed, as in most
# containers, `up` says how many are missing.
raise_inotify() {
    local file=/proc/sys/fs/inotify/max_user_instances enough=1024 had
    had=$(cat "$file" 2>/dev/null) || return 0
    [ "$had" -lt $enough ] || return 0
    { echo $enough >"$file"; } 2>/dev/null || return 0
    say "fs.inotify.max_user_instances was $had and is $enough until the next boot: clusters take many"
}

install_packages() {
    local names="$*"
    have apt-get || fail "missing on this machine: $names (names as in Debian); install them and run again"
    say "installing from the distribution: $names"
    # The lock may be held by unattended upgrades on a machine that has just booted.
    local apt=(apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
    export DEBIAN_FRONTEND=noninteractive
    "${apt[@]}" update </dev/null >&2 || fail "apt-get update failed (the reason is above); needed for: $names"
    "${apt[@]}" install -y --no-install-recommends "$@" </dev/null >&2 ||
        fail "apt-get could not install (the reason is above): $names"
}
