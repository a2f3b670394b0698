#!/bin/sh
# How does a fresh clone get its Python environment?
#
# Makes .venv with exactly the versions of ops/locks/development.txt. Run again, it does nothing until the lock file, the
# project file, the interpreter or the place of the clone has changed.
set -eu

cd "$(dirname "$0")/.."
lock=ops/locks/development.txt
stamp=.venv/boxoffice-stamp

say() { printf '%s\n' "$*" >&2; }
give_up() { say "setup: $*"; exit 1; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 && is_new_enough "$candidate" || continue
        command -v "$candidate"
        return 0
    done
    return 1
}

may_install() { [ "$(id -u)" = 0 ] && [ "${BOXOFFICE_INSTALL:-yes}" != no ] && command -v apt-get >/dev/null 2>&1; }

apt_install() {
    say "setup: installing $* with apt-get"
    apt-get update >/dev/null || true # an old list of packages may still do
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >/dev/null
}

# What the environment was made from. Its path is in it, because an environment cannot be moved.
fingerprint() {
    { cat "$lock" pyproject.toml; pwd -P; "$1" -c 'import sys; print(sys.version)'; } | sha256sum | cut -d' ' -f1
}

make_environment() {
    # Debian ships venv without ensurepip; `python -m venv` then fails half-way and leaves a folder behind.
    if ! "$1" -c 'import ensurepip, venv' 2>/dev/null; then
        may_install || give_up "$1 cannot make virtual environments: apt-get install python3-venv"
        apt_install python3-venv
    fi
    rm -rf .venv
    "$1" -m venv .venv
}

python=$(find_python) || {
    may_install || give_up "no Python 3.11 or later: install it (apt-get install python3 python3-venv), or set PYTHON"
    apt_install python3 python3-venv
    python=$(find_python) || give_up "this system's Python is older than 3.11: install a newer one and set PYTHON"
}

wanted=$(fingerprint "$python")
if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

say "setup: 1/3 virtual environment in .venv ($python)"
# Packages that are right already are kept; an environment of another interpreter or another place is made anew.
if ! { [ -x .venv/bin/pip ] && .venv/bin/python -c 'import sys; sys.exit(sys.prefix != sys.argv[1])' "$(pwd -P)/.venv" \
    && [ "$(.venv/bin/python -c 'import sys; print(sys.version)')" = "$("$python" -c 'import sys; print(sys.version)')" ]; } 2>/dev/null; then
    make_environment "$python"
fi
rm -f "$stamp"

say "setup: 2/3 packages of $lock"
# A minute of silence looks like a hang to a person; a build log is better off without it.
quiet=--quiet
[ -t 2 ] && quiet=
# Hashes are checked, so it does not matter which index the packages come from.
.venv/bin/python -m pip install ${quiet:+"$quiet"} --disable-pip-version-check --require-hashes -r "$lock"

say "setup: 3/3 boxoffice itself"
# Its dependencies are all there, and so is setuptools: nothing more is fetched.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .

printf '%s\n' "$wanted" >"$stamp"
say "setup: done"
