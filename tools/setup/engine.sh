#!/usr/bin/env bash
# Builds the Pulumi engine of tools/engine and puts it, with the language host of tools/langhost, into the cache.
# Called by setup.sh when there is no pulumi on PATH. Safe to run from several clones at once.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

go=$(find_go) || fail "Go is not installed"
target=$(engine_dir)
[ -e "$target/bin/pulumi" ] && exit 0

mkdir -p "$cache"
exec 9>"$cache/engine.lock"
if ! flock -n 9; then
    say "another set-up is building the engine; waiting for it"
    flock 9
    [ -e "$target/bin/pulumi" ] && exit 0
fi

# Removed also when the build is interrupted, and by the next one if it was killed: we hold the lock.
rm -rf "$cache"/building.*
work=$(mktemp -d "$cache/building.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The command-line tool depends on Go's side only, so a change of the language host need not build it again.
pins=$({ GOTOOLCHAIN=local "$go" version; cat "$root"/tools/engine/go.mod "$root"/tools/engine/go.sum; } | sha256sum)
binary=$cache/pulumi-${pins:0:16}

if [ ! -x "$binary" ]; then
    version=$(awk '$1 == "github.com/pulumi/pulumi/pkg/v3" { print $2; exit }' "$root/tools/engine/go.mod")
    say "building the Pulumi engine $version from its Go modules: 3 to 6 minutes on two cores, once per version"
    # One line per downloaded module or compiled package is too much, silence for minutes is too little.
    progress='
        /^go: downloading / { if (++d % 100 == 0) { print "setup: engine: " d " modules downloaded"; fflush() } next }
        NF == 1 && !/^#/    { if (++n % 250 == 0) { print "setup: engine: " n " packages compiled"; fflush() } next }
                            { print; fflush() }'
    # The version must be told at link time: the SDK asks the engine for it. osusergo and CGO_ENABLED=0: one static
    # file that runs on every distribution. grpcnotrace: without it the linker keeps megabytes of unused code.
    if ! (
        cd "$root/tools/engine"
        unset GOOS GOARCH
        GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 nice "$go" build -v -buildvcs=false -trimpath -mod=readonly \
            -tags osusergo,grpcnotrace \
            -ldflags "-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=$version" \
            -o "$work/pulumi" github.com/pulumi/pulumi/pkg/v3/cmd/pulumi
    ) 2> >(awk "$progress" >&2); then
        fail "the Pulumi engine could not be built (the reason is above); it needs the Go module proxy and 4 GB of disk"
    fi
    mv -T "$work/pulumi" "$binary"
fi

mkdir -p "$work/tree/bin" "$work/tree/langhost"
ln "$binary" "$work/tree/bin/pulumi"
install -m 755 "$root"/tools/langhost/pulumi-* "$work/tree/bin/"
install -m 644 "$root"/tools/langhost/*.py "$work/tree/langhost/"
rm -rf "$target"
mv -T "$work/tree" "$target"
say "engine ready: $target/bin"
