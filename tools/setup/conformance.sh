#!/usr/bin/env bash
# Builds what `make conformance` runs, from pinned Go modules, into the cache: Kubernetes' own end-to-end specs
# (tools/conformance) and agnhost, which runs in their pods. Two minutes on two cores, once per version.
#   conformance.sh                build what is missing, install what pods need of the distribution; print the directory
#   conformance.sh --background   only the build, detached, at the lowest priority; the next call waits for it
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/gobuild.sh"
. "$(dirname "${BASH_SOURCE[0]}")/system.sh"

folder=$root/tools/conformance

build_conformance() {
    local agnhost=k8s.io/kubernetes/test/images/agnhost
    go_build conformance "$folder" -o "$work/tree/e2e.test" -ldflags "-s -w" . || return 1
    go_build agnhost "$folder" -o "$work/tree/agnhost" -ldflags "-s -w" $agnhost || return 1
    # What agnhost finds beside itself in upstream's image, to serve HTTPS.
    cp "$(cd "$folder" && "$(find_go)" list -mod=readonly -f '{{.Dir}}' $agnhost)"/porter/localhost.{crt,key} "$work/tree/"
}

need_go tools/conformance "Kubernetes' end-to-end specs"
pins=$(pins_of "$folder"/go.mod "$folder"/go.sum "$folder"/*.go <(declare -f build_conformance go_build))
target=$cache/conformance-$pins

build() {
    begin_build conformance "$target" || return 0
    mkdir "$work/tree"
    say "building Kubernetes' end-to-end specs: 2 minutes on two cores, once per version"
    build_conformance || fail "the specs could not be built (the reason is above); it needs the Go module proxy"
    mv -T "$work/tree" "$target"
    say "end-to-end specs ready: $target"
}

# Commands that the specs call in their pods; tools/conformance/images.py takes them from the packages.
missing_commands() {
    [ -x /bin/busybox ] || echo busybox-static
    [ -x /bin/nc.openbsd ] || echo netcat-openbsd
    [ -x /usr/bin/dig ] || echo bind9-dnsutils
    have curl || echo curl
}

case ${1:-} in
--background)
    [ -e "$target" ] && exit 0
    mkdir -p "$cache"
    build_nice=19
    (trap '' HUP; build) </dev/null >>"$cache/conformance.log" 2>&1 &
    ;;
'')
    packages=$(missing_commands)
    # shellcheck disable=SC2086 # a list of names
    [ -z "$packages" ] || install_packages $packages
    (build)
    printf '%s\n' "$target"
    ;;
*) fail "usage: conformance.sh [--background]" ;;
esac
