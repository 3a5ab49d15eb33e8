#!/usr/bin/env bash
# Prints the environment in which Pulumi runs here, as `export` lines for eval. Called by `make env`, tools/setup/run
# and the tests. What the caller has set the usual Pulumi way (backend, passphrase, home) is left alone.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/system.sh"

put() { printf 'export %s=%q\n' "$1" "$2"; }

# Values that `make env` of another clone left in this shell are not the caller's wish: they would run this clone's
# program on the other's state.
other=${MIZAR_ENV_OF:-$root}
if [ "$other" != "$root" ]; then
    [[ ${PULUMI_BACKEND_URL:-} == "file://$other/.pulumi-state"?(\?*) ]] && unset PULUMI_BACKEND_URL
    [ "${PULUMI_HOME:-}" = "$other/.pulumi-home" ] && unset PULUMI_HOME
fi
put MIZAR_ENV_OF "$root"

path=$root/.venv/bin
if ! users_pulumi >/dev/null; then
    engine=$(engine_dir) && [ -x "$engine/bin/pulumi" ] || fail "no Pulumi engine yet: run 'make setup'"
    path=$engine/bin:$path
    # Our engine keeps its plugins and the selected stack in the clone. A pulumi of the user's own keeps using the
    # user's home: their plugins are there.
    put PULUMI_HOME "${PULUMI_HOME:-$root/.pulumi-home}"
    # For the language host's launcher, which must find a Python with the SDK before it knows the project.
    put MIZAR_PYTHON "$root/.venv/bin/python"
fi
# Where the bpftool on PATH is Ubuntu's wrapper without a build for the running kernel, one that works goes before it.
if tool=$(bpftool_path) && [ "$tool" != "$(type -P bpftool || true)" ]; then path=$path:$(dirname "$tool"); fi
case :$PATH: in :"$path":*) ;; *) PATH=$path:$PATH ;; esac
# The kubectl of local clusters, once it is built. Last: a kubectl of the user's own goes before it.
kubernetes=$("$root/tools/setup/kubernetes.sh" --where 2>/dev/null | sed -n 's/^kubernetes=//p') || true
if [ -n "$kubernetes" ] && [ -x "$kubernetes/kubectl" ]; then
    case :$PATH: in *:"$kubernetes":*) ;; *) PATH=$PATH:$kubernetes ;; esac
fi
put PATH "$PATH"

if [ -z "${PULUMI_BACKEND_URL:-}" ]; then
    # Pulumi does not make it. For its owner alone: the passphrase below keeps no secret from who can read the folder.
    mkdir -p -m 700 "$root/.pulumi-state"
    [ ! -O "$root/.pulumi-state" ] || chmod 700 "$root/.pulumi-state"
    # Without the sidecars of metadata, which nobody reads: a state is renamed into its place, but its sidecar is written
    # there, so that an engine killed in that moment leaves half a one, and a state that cannot be read.
    put PULUMI_BACKEND_URL "file://$root/.pulumi-state?metadata=skip"
else
    put PULUMI_BACKEND_URL "$PULUMI_BACKEND_URL"
fi
# The passphrase that the salts in stacks/ belong to, known to everybody: what guards the secrets of these stacks, a
# cluster's authority and its admin's key among them, is the mode of the folder above. A state that leaves this machine
# needs another passphrase. A set one is not printed: this output ends up in logs. Set but empty is a passphrase too.
if [ -z "${PULUMI_CONFIG_PASSPHRASE+set}" ] && [ -z "${PULUMI_CONFIG_PASSPHRASE_FILE:-}" ]; then
    put PULUMI_CONFIG_PASSPHRASE mizar
fi
put PULUMI_SKIP_UPDATE_CHECK "${PULUMI_SKIP_UPDATE_CHECK:-true}"
# Installed cloud SDKs name plugins of hundreds of megabytes. With this a plugin is fetched when a stack first makes a
# resource of it, so a stack on this machine fetches none.
put PULUMI_OPTION_SKIP_PLUGIN_PRE_INSTALL "${PULUMI_OPTION_SKIP_PLUGIN_PRE_INSTALL:-true}"
