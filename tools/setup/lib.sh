# What the set-up scripts share: where things are, how they speak. Sourced by every script of this directory.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
# Built tools, shared by all clones of this user. MIZAR_CACHE moves it (tests, a read-only home).
cache=${MIZAR_CACHE:-${HOME:-/root}/.cache/mizar}

# Only to stderr: stdout belongs to the verbs whose output is read by programs (`make env`, `make outputs`).
say() { printf 'setup: %s\n' "$*" >&2; }
fail() {
    printf 'setup: error: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# version_at_least HAVE WANT: dotted numbers.
version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# The user's own pulumi: the first on PATH that is not one that we built (PATH has ours after `eval "$(make env)"`).
users_pulumi() {
    local each
    while IFS= read -r each; do
        case $each in "$cache"/*) ;; *) printf '%s\n' "$each" && return 0 ;; esac
    done < <(type -aP pulumi)
    return 1
}

# Go, also where its own installer puts it: sudo and CI often drop that directory from PATH.
find_go() {
    local each
    for each in "$(type -P go || true)" /usr/local/go/bin/go; do
        [ -n "$each" ] && [ -x "$each" ] && printf '%s\n' "$each" && return 0
    done
    return 1
}

# need_go MODULE WHAT: ends the script with one message where Go is missing, or older than the go line of that folder's
# go.mod. Called before anything long: `go build` would say so late, and not what to do.
need_go() {
    local wanted go here
    wanted=$(awk '$1 == "go" { print $2; exit }' "$root/$1/go.mod")
    go=$(find_go) || fail "needs Go $wanted or newer to build $1 ($2), and there is none: install it from https://go.dev/dl"
    # A development build says "devel go1.27-...": the number is what counts.
    here=$(GOTOOLCHAIN=local "$go" version | grep -oE 'go[0-9]+(\.[0-9]+)*' | head -n 1 | cut -c 3-)
    version_at_least "$here" "$wanted" ||
        fail "needs Go $wanted or newer to build $1 ($2), but $go is $here: install a newer one from https://go.dev/dl"
}

# pins_of FILE...: 16 hex digits that stand for the Go release and the files' content.
pins_of() {
    local go sum
    go=$(find_go) || return 1
    sum=$({ GOTOOLCHAIN=local "$go" version; cat -- "$@"; } | sha256sum)
    printf '%s\n' "${sum:0:16}"
}

# The directory that holds (or will hold) the engine we build, named by everything that goes into it.
engine_dir() {
    local pins
    pins=$(pins_of "$root"/tools/engine/go.mod "$root"/tools/engine/go.sum "$root"/tools/setup/{engine,gobuild}.sh \
        "$root"/tools/langhost/*.py "$root"/tools/langhost/pulumi-*) || return 1
    printf '%s/engine-%s\n' "$cache" "$pins"
}
