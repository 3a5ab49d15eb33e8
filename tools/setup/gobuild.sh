# What we build from pinned Go modules, into the cache of this user: once per version, published by one rename, safe to
# run from several clones at once. Sourced after lib.sh by engine.sh and kubernetes.sh.
# shellcheck shell=bash

# begin_build NAME TARGET: true when TARGET is still to be made, and then this process alone makes it: it has a folder
# $work on the cache's file system, which is removed when it ends. False: TARGET is there, made by us or by another.
begin_build() {
    local name=$1 target=$2
    [ -e "$target" ] && return 1
    mkdir -p "$cache"
    exec 9>"$cache/$name.lock"
    if ! flock -n 9; then
        say "another set-up is building $name; waiting for it"
        flock 9
    fi
    [ -e "$target" ] && return 1
    # Removed also when the build is interrupted, and by the next one if it was killed: we hold the lock.
    rm -rf "$cache/building.$name".*
    work=$(mktemp -d "$cache/building.$name.XXXXXX")
    trap 'rm -rf "$work"' EXIT
}

# go_build NAME FOLDER ARGUMENT...: `go build` in the module of that folder, telling how far it is. One line per
# downloaded module or compiled package is too much, silence for minutes is too little.
go_build() {
    local name=$1 folder=$2 go progress
    shift 2
    go=$(find_go) || fail "Go is not installed"
    progress='
        /^go: downloading / { if (++d % 100 == 0) { print "setup: " name ": " d " modules downloaded"; fflush() } next }
        NF == 1 && !/^#/    { if (++n % 250 == 0) { print "setup: " name ": " n " packages compiled"; fflush() } next }
                            { print; fflush() }'
    # CGO_ENABLED=0: static files that run on every distribution.
    (
        cd "$folder"
        unset GOOS GOARCH
        GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 nice -n "${build_nice:-10}" "$go" build -v -buildvcs=false -trimpath \
            -mod=readonly "$@"
    ) 2> >(awk -v name="$name" "$progress" >&2)
}
