#!/usr/bin/env bash
# The verbs that need more than one call of Pulumi: stack.sh up|summary|preview|refresh|down|kubeconfig STACK. Called by
# the Makefile; `summary` is the end of `make up`, apart because up becomes Pulumi, which must get the caller's signals.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

verb=${1:?usage: stack.sh up|summary|preview|refresh|down|kubeconfig STACK}
stack=${2:?stack.sh: no stack given (STACK=...)}

# Nothing was ever brought up from this clone: no need for an engine to say so.
if [ "$verb" = down ] && [ -z "${PULUMI_BACKEND_URL:-}" ] && [ ! -d .pulumi-state/.pulumi/stacks ]; then
    say "no stack $stack: nothing to destroy"
    exit 0
fi
[ "$verb" != down ] || tools/setup/setup.sh

settings=$(tools/setup/env.sh)
eval "$settings"

# A killed run leaves its lock in a file backend, and Pulumi then asks for `pulumi cancel`. A lock whose holder was on
# this machine and is gone guards nothing.
drop_stale_lock() {
    if .venv/bin/python tools/setup/stale_lock.py "$PULUMI_BACKEND_URL" "$stack"; then
        say "the last run of stack $stack was killed: its lock is dropped"
        pulumi cancel --yes --stack "$stack" >&2
    fi
}

exists() {
    local list
    list=$(pulumi stack ls --json) || fail "cannot list the stacks of $PULUMI_BACKEND_URL (the reason is above)"
    .venv/bin/python -c '
import json, sys
names = [stack["name"] for stack in json.loads(sys.argv[1])]
sys.exit(not any(name == sys.argv[2] or name.endswith("/" + sys.argv[2]) for name in names))' "$list" "$stack"
}

# In the stack's own folder, which goes when the stack goes. `mizar` looks for it there too.
write_kubeconfig() {
    local id text file
    id=$(pulumi stack output stackId --stack "$stack")
    text=$(pulumi stack output kubeconfig --show-secrets --stack "$stack") ||
        fail "stack $stack has no cluster: no kubeconfig among its outputs"
    file=/run/mizar/$id/kubeconfig
    (umask 077 && printf '%s\n' "$text" >"$file.new")
    mv -T "$file.new" "$file"
    printf '%s\n' "$file"
}

case $verb in
up | preview)
    if grep -qE '^ *mizar:target: *local-k8s' "stacks/Pulumi.$stack.yaml" 2>/dev/null; then
        # What the cluster of such a stack runs is built first; it may be on its way in the background.
        tools/setup/kubernetes.sh
        tools/providers/kubernetes/install.sh
    fi
    # Also a preview needs the stack; an empty one costs nothing and `make down` removes it.
    pulumi stack select --create "$stack"
    drop_stale_lock
    if [ "$verb" = up ]; then
        exec pulumi up --yes --stack "$stack"
    fi
    exec pulumi preview --stack "$stack"
    ;;
summary)
    outputs=$(pulumi stack output --json --stack "$stack")
    .venv/bin/python tools/setup/summary.py <<<"$outputs"
    if grep -q '"kubeconfig"' <<<"$outputs"; then say "kubectl: export KUBECONFIG=$(write_kubeconfig)"; fi
    ;;
refresh)
    drop_stale_lock
    exec pulumi refresh --yes --stack "$stack"
    ;;
down)
    if ! exists; then
        say "no stack $stack: nothing to destroy"
        exit 0
    fi
    drop_stale_lock
    pulumi destroy --yes --stack "$stack"
    # The state goes too, so that nothing of the stack is left; its config file is the user's.
    pulumi stack rm --yes --preserve-config --stack "$stack"
    ;;
kubeconfig) write_kubeconfig ;;
*) fail "stack.sh: unknown verb $verb" ;;
esac
