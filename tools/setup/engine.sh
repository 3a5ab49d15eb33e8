#!/usr/bin/env bash
# Builds the Pulumi engine of tools/engine and puts it, with the language host of tools/langhost, into the cache.
# Called by setup.sh when there is no pulumi on PATH. Safe to run from several clones at once.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/gobuild.sh"

find_go >/dev/null || fail "Go is not installed"
target=$(engine_dir)
begin_build engine "$target" || exit 0

# The command-line tool depends on Go's side only, so a change of the language host need not build it again.
binary=$cache/pulumi-$(pins_of "$root"/tools/engine/go.mod "$root"/tools/engine/go.sum)

if [ ! -x "$binary" ]; then
    version=$(awk '$1 == "github.com/pulumi/pulumi/pkg/v3" { print $2; exit }' "$root/tools/engine/go.mod")
    say "building the Pulumi engine $version from its Go modules: 3 to 6 minutes on two cores, once per version"
    # The version must be told at link time: the SDK asks the engine for it. grpcnotrace: without it the linker keeps
    # megabytes of unused code.
    go_build engine "$root/tools/engine" -tags osusergo,grpcnotrace \
        -ldflags "-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=$version" \
        -o "$work/pulumi" github.com/pulumi/pulumi/pkg/v3/cmd/pulumi ||
        fail "the Pulumi engine could not be built (the reason is above); it needs the Go module proxy and 4 GB of disk"
    mv -T "$work/pulumi" "$binary"
fi

mkdir -p "$work/tree/bin" "$work/tree/langhost"
ln "$binary" "$work/tree/bin/pulumi"
install -m 755 "$root"/tools/langhost/pulumi-* "$work/tree/bin/"
install -m 644 "$root"/tools/langhost/*.py "$work/tree/langhost/"
rm -rf "$target"
mv -T "$work/tree" "$target"
say "engine ready: $target/bin"
