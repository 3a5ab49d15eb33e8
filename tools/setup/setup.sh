#!/usr/bin/env bash
# Makes this machine and this clone ready: `make setup`, and before every verb that needs it. A second run finds
# everything in place and takes well under a second. What cannot be helped is checked first, before anything long.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/system.sh"
cd "$root"

[ "$(id -u)" = 0 ] || fail "needs root (network namespaces, BPF programs, packages): run it again with sudo"

# --- what the user must bring -----------------------------------------------------------------------------------
# After `eval "$(make env)"` PATH leads to our own .venv, which must not be made from itself.
PATH=${PATH//"$root/.venv/bin:"/}
# The first Python that is new enough, python3 before any other; MIZAR_SYSTEM_PYTHON overrides.
new_enough='import sys; sys.exit(sys.version_info < (3, 11))'
python=
for each in ${MIZAR_SYSTEM_PYTHON:+"$MIZAR_SYSTEM_PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
    if have "$each" && "$each" -c "$new_enough" 2>/dev/null; then
        python=$(type -P "$each")
        break
    fi
done
if [ -z "$python" ] && have python3; then
    fail "needs Python 3.11 or newer, but python3 here is $(python3 -c 'import platform; print(platform.python_version())')"
fi

if own=$(users_pulumi); then
    # Theirs, with the language host beside it: what they run by hand is what the verbs run.
    [ -x "$(dirname "$own")/pulumi-language-python" ] || have pulumi-language-python ||
        fail "pulumi is at $own, but pulumi-language-python is not beside it: reinstall Pulumi, or take it off PATH and one will be built"
else
    need_go tools/engine "the Pulumi engine, as there is no pulumi on PATH"
fi

# --- what the distribution brings -------------------------------------------------------------------------------
packages=$(missing_packages)
[ -n "$python" ] || packages+=" python3 python3-venv"
if [ -n "$python" ] && [ ! -e .venv/mizar-stamp ] && ! "$python" -c 'import ensurepip, venv; ensurepip.version()' 2>/dev/null; then
    # Debian and Ubuntu split it off; the package is named after the interpreter.
    packages+=" $("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
fi
if [ -n "${packages// /}" ]; then
    # shellcheck disable=SC2086 # a list of names
    install_packages $packages
    still=$(missing_packages | tr '\n' ' ')
    [ -z "$still" ] || fail "still missing after installing: $still"
fi
if [ -z "$python" ]; then
    have python3 && python3 -c "$new_enough" || fail "needs Python 3.11 or newer; this distribution has an older one"
    python=$(type -P python3)
fi

raise_inotify

# --- what we make -----------------------------------------------------------------------------------------------
tools/setup/venv.sh "$python"
[ -n "$own" ] || tools/setup/engine.sh
"${MAKE:-make}" -s --no-print-directory bpf cni >&2
