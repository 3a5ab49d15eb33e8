#!/usr/bin/env bash
# Makes .venv: the pinned Python environment of the clone. Called by setup.sh with the Python to use:
#   tools/setup/venv.sh PYTHON                 make it, unless it is as it should be
#   tools/setup/venv.sh --renew-constraints    write the pins of what is installed to constraints.txt
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

constraints=tools/setup/constraints.txt
if [ "${1:-}" = --renew-constraints ]; then
    # Direct dependencies are pinned in pyproject.toml, with their reasons; the project itself is not a package.
    direct=$(grep -oE '^ +"[a-z0-9-]+==' pyproject.toml | tr -d ' "' | paste -sd '|')
    .venv/bin/python -m pip freeze --exclude-editable | grep -viE "^($direct)" >"$constraints.new"
    { grep '^#' "$constraints"; cat "$constraints.new"; } >"$constraints.all"
    rm "$constraints.new"
    mv "$constraints.all" "$constraints"
    exit 0
fi
python=${1:?usage: venv.sh PYTHON}

# Everything the environment depends on: of pyproject.toml what stands before the settings of ruff and the other tools,
# which change no package. The clone's path is part of it, as a virtual environment cannot be moved.
wanted=$({ sed '/^\[tool\.ruff\]/,$d' pyproject.toml; cat "$constraints" tools/setup/venv.sh; "$python" -VV; printf '%s\n' "$root"; } | sha256sum)
stamp=.venv/mizar-stamp
current() { [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && [ -x .venv/bin/python ]; }
current && exit 0

# The clone's directory is the lock: two verbs started at once must not build the same .venv.
exec 8<"$root"
flock 8
current && exit 0

say "making .venv with the pinned packages: about half a minute"
rm -rf .venv
"$python" -m venv .venv || fail "python's venv module could not make $root/.venv (the reason is above)"
.venv/bin/python -m pip install --quiet --no-input --disable-pip-version-check \
    -c "$constraints" -e '.[dev]' </dev/null || fail "the packages of pyproject.toml could not be installed (the reason is above)"
printf '%s\n' "$wanted" >"$stamp"
