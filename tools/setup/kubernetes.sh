#!/usr/bin/env bash
# Builds what a local Kubernetes cluster runs, from pinned Go modules, into the cache: Kubernetes with etcd
# (tools/kubernetes), CoreDNS (tools/kubernetes/coredns), containerd with the reference CNI plugins (tools/containerd).
#   kubernetes.sh                build what is missing: some 9 minutes on two cores, once per version
#   kubernetes.sh --background   the same, detached, at the lowest priority; the next call waits for it
#   kubernetes.sh --where        print "name=directory" of each, built or not
# Called by setup.sh for the stacks that need it, and by node_agent/emulation/cluster/programs.py, which asks where.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/gobuild.sh"

version_of() { awk -v name="$2" '$1 == name { print $2; exit } $1 == "require" && $2 == name { print $3; exit }' "$1/go.mod"; }

# --- recipes: each makes $work/tree from $folder, and is part of the name of what it makes ---

build_kubernetes() {
    local version package=k8s.io/component-base/version each
    version=$(version_of "$folder" k8s.io/kubernetes)
    IFS=. read -r major minor _ <<<"${version#v}"
    # Told at link time: without it nodes and kubeadm see "v0.0.0-master+$Format".
    go_build kubernetes "$folder" -o "$work/tree/kubernetes" -ldflags "-s -w -X $package.gitVersion=$version \
        -X $package.gitMajor=$major -X $package.gitMinor=$minor -X $package.gitTreeState=clean" . || return 1
    # The names that main.go goes by.
    for each in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl kubeadm; do
        ln -s kubernetes "$work/tree/$each"
    done
    clang -static -Os -Wall -Wextra -Werror -s -o "$work/tree/pause" "$folder/pause.c"
}

build_coredns() {
    go_build coredns "$folder" -o "$work/tree/coredns" -ldflags "-s -w" .
}

build_containerd() {
    local module=github.com/containerd/containerd/v2 plugins=github.com/containernetworking/plugins
    mkdir -p "$work/tree/bin" "$work/tree/cni"
    go_build containerd "$folder" -o "$work/tree/bin/" -tags osusergo,netgo,urfave_cli_no_docs \
        -ldflags "-s -w -X $module/version.Version=$(version_of "$folder" $module)" \
        $module/cmd/{containerd,containerd-shim-runc-v2,ctr} github.com/containernetworking/cni/cnitool || return 1
    go_build cni "$folder" -o "$work/tree/cni/" \
        -ldflags "-s -w -X $plugins/pkg/utils/buildversion.BuildVersion=$(version_of "$folder" $plugins)" \
        $plugins/plugins/{ipam/host-local,main/bridge,main/loopback,meta/bandwidth,meta/portmap}
}

# --- what is built from what ---

# target_of NAME FOLDER: the recipe is part of the name, not this file: a changed comment must not cost nine minutes.
target_of() {
    local folder=$root/tools/$2 pins
    pins=$(pins_of "$folder"/go.mod "$folder"/go.sum $(compgen -G "$folder/*.go") $(compgen -G "$folder/*.c") \
        <(declare -f "build_$1" go_build)) || fail "Go is not installed: it builds the Kubernetes of a local cluster"
    printf '%s/%s-%s\n' "$cache" "$1" "$pins"
}

# Each in a shell of its own: lock and working folder are its own too.
build() (
    local name=$1 folder=$root/tools/$2 how_long=$3 target
    target=$(target_of "$name" "$2")
    begin_build "$name" "$target" || exit 0
    mkdir "$work/tree"
    say "building $name: $how_long on two cores, once per version"
    "build_$name" ||
        fail "$name could not be built (the reason is above); it needs the Go module proxy and 5 GB of disk"
    mv -T "$work/tree" "$target"
    say "$name ready: $target"
)

everything() {
    build containerd containerd "1 minute"
    build kubernetes kubernetes "7 minutes"
    build coredns kubernetes/coredns "1 minute"
}

where() {
    printf '%s=%s\n' kubernetes "$(target_of kubernetes kubernetes)" coredns "$(target_of coredns kubernetes/coredns)" \
        containerd "$(target_of containerd containerd)"
}

need_all() {
    need_go tools/kubernetes "the Kubernetes of a local cluster"
    need_go tools/kubernetes/coredns "its name server"
    need_go tools/containerd "its container runtime"
}

case ${1:-} in
--where) where ;;
--background)
    need_all
    while IFS='=' read -r _ target; do
        [ -e "$target" ] && continue
        mkdir -p "$cache"
        say "Kubernetes is built in the background; progress: $cache/kubernetes.log"
        build_nice=19
        (trap '' HUP; everything) </dev/null >>"$cache/kubernetes.log" 2>&1 &
        break
    done < <(where)
    ;;
'')
    need_all
    everything
    ;;
*) fail "usage: kubernetes.sh [--background | --where]" ;;
esac
