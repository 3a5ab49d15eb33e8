#!/usr/bin/env bash
# Makes the plugin `kubernetes` available at the wheel's version: the official one if it is or can be had, else the
# stand-in beside this file. For set-up and tests:
#   install.sh              as above; says in one line when it is the stand-in
#   install.sh --stand-in   the stand-in, without asking for the official one
# Needs the environment of tools/setup/run. The stand-in goes into the plugin folder of the clone, or into one named by
# PULUMI_HOME: never into ~/.pulumi, where it would serve other projects.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
root=$(cd "$here/../../.." && pwd -P)
version=$("$root/.venv/bin/python" -c 'import importlib.metadata as m; print(m.version("pulumi-kubernetes"))')
folder=${PULUMI_HOME:-$HOME/.pulumi}/plugins/resource-kubernetes-v$version
plugin=$folder/pulumi-resource-kubernetes

# A link is the stand-in. It stays until it is removed: the official plugin is not asked for in every set-up.
[ -e "$plugin" ] && exit 0
if [ "${1:-}" != --stand-in ] && pulumi plugin install resource kubernetes "v$version" >/dev/null 2>&1; then exit 0; fi
if [ -z "${PULUMI_HOME:-}" ]; then
    echo "setup: error: the plugin kubernetes $version cannot be had; its stand-in needs PULUMI_HOME set" >&2
    exit 1
fi
mkdir -p "$folder"
ln -sfn "$here/pulumi-resource-kubernetes" "$plugin"
echo "setup: the plugin kubernetes $version cannot be had: its stand-in is used ($root/tools/providers/kubernetes)" >&2
