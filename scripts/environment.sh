# Shared by the scripts here, by `.` only: finds a Python, makes the virtual environment, asks apt where it may.
# Law: everything that is done to the machine is said in a sentence first; what cannot be done is said with its reason.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON_MIN_MINOR=11
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" # Debian puts mosquitto in /usr/sbin, which a user's PATH lacks

say() { printf '%s\n' "$*" >&2; }
fail() { say "$(basename "$0"): $*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# Prints the version ("3.13") of interpreter $1, or nothing where it does not run (a pyenv shim may stand for none).
python_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

is_supported() { # version
    [[ $1 =~ ^3\.([0-9]+)$ ]] && ((BASH_REMATCH[1] >= PYTHON_MIN_MINOR))
}

# Prints "VERSION PATH" of each supported Python on this machine, one a version, oldest first.
list_pythons() {
    local candidate version
    for candidate in python3.1{1..9} python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python; do
        candidate=$(command -v "$candidate") || continue
        version=$(python_version "$candidate")
        if is_supported "$version"; then printf '%s %s\n' "$version" "$candidate"; fi
    done | sort -s -t. -k2,2n | awk '!seen[$1]++'
}

# Prints the interpreter to use: $PYTHON (a path, a name or a version), else the one that .venv was made with, else the oldest supported one,
# since what runs there runs on the Pi with the oldest system.
choose_python() {
    local version found
    if [[ -n ${PYTHON:-} ]]; then
        if version=$(python_version "$PYTHON"); then
            is_supported "$version" || fail "PYTHON=$PYTHON is Python $version; 3.$PYTHON_MIN_MINOR or newer is needed."
            command -v "$PYTHON"
        else
            found=$(list_pythons | grep "^${PYTHON#python} ") ||
                fail "PYTHON=$PYTHON does not run; give the path of a Python >= 3.$PYTHON_MIN_MINOR."
            printf '%s\n' "${found#* }"
        fi
    elif is_supported "$(python_version "$ROOT/.venv/bin/python")"; then
        printf '%s\n' "$ROOT/.venv/bin/python"
    else
        found=$(list_pythons | head -n 1)
        [[ -n $found ]] || fail "no Python >= 3.$PYTHON_MIN_MINOR found; install one (Debian: apt install python3 python3-venv) or name it: PYTHON=/path/to/python $0"
        printf '%s\n' "${found#* }"
    fi
}

# Installs Debian packages "$2"... for the reason "$1": true when they are there afterwards. Asks nothing, stops nothing.
apt_install() {
    local why=$1 log
    shift
    if ! has apt-get; then
        say "No apt-get here, so $* is not installed ($why)."
        return 1
    elif ((EUID != 0)); then
        say "Not root, so $* is not installed ($why). By hand: sudo apt install $*"
        return 1
    fi
    say "Installing $* with apt ($why)."
    log=$(mktemp)
    if DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" </dev/null >"$log" 2>&1 ||
        { apt-get update </dev/null >>"$log" 2>&1 &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" </dev/null >>"$log" 2>&1; }; then
        rm -f "$log"
        return 0
    fi
    say "apt could not install $*:"
    tail -n 3 "$log" >&2
    rm -f "$log"
    return 1
}

pip_install() { # environment, log, what...
    local environment=$1 log=$2
    shift 2
    (cd "$ROOT" && "$environment/bin/python" -m pip install --disable-pip-version-check "$@" </dev/null >"$log" 2>&1)
}

# Compiles bluepy into environment $1 where that can be done; without it the radio tests are skipped, no more.
add_bluepy() {
    local environment=$1 why="bluepy compiles its helper"
    "$environment/bin/python" -c 'import bluepy' 2>/dev/null && return
    if ! { has gcc && has make && has pkg-config && pkg-config --exists glib-2.0; }; then
        if ! apt_install "$why" gcc make pkg-config libglib2.0-dev; then
            say "bluepy is left out: its tests are skipped, everything else runs."
            return
        fi
    fi
    say "Compiling bluepy (extra 'pi')."
    pip_install "$environment" "$environment/bluepy.log" -e '.[pi]' ||
        say "bluepy is left out: it did not compile ($environment/bluepy.log); its tests are skipped, everything else runs."
}

# Makes the virtual environment for extras $1 ("", "demo" or "dev") up to date and sets ENVIRONMENT to its folder.
# A stamp keyed by pyproject.toml, place and Python makes the next time quick.
make_environment() {
    local extras=$1 python version key stamp log wanted
    python=$(choose_python) || exit 1
    version=$(python_version "$python")
    ENVIRONMENT="$ROOT/.venv${PYTHON:+-$version}"
    key=$({ cat "$ROOT/pyproject.toml"; printf '%s %s' "$ROOT" "$version"; } | sha256sum | cut -c1-16)
    log="$ENVIRONMENT/pip.log"
    for wanted in "$extras" dev; do
        stamp="$ENVIRONMENT/installed-${wanted:-plain}"
        [[ -x $ENVIRONMENT/bin/gateway && -f $stamp && $(<"$stamp") == "$key" ]] && return
    done
    stamp="$ENVIRONMENT/installed-${extras:-plain}"
    if ! [[ -x $ENVIRONMENT/bin/python ]] || ! "$ENVIRONMENT/bin/python" -m pip --version >/dev/null 2>&1; then
        say "Making $ENVIRONMENT with Python $version ($python)."
        if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            apt_install "Python $version here cannot make virtual environments" "python$version-venv" ||
                fail "Python $version ($python) cannot make a virtual environment: install its venv package, or name another with PYTHON=..."
        fi
        "$python" -m venv --clear "$ENVIRONMENT" || fail "the virtual environment could not be made."
    fi
    say "Installing the gateway${extras:+ and what goes with it} into $(basename "$ENVIRONMENT") (about a minute, this once)."
    if ! pip_install "$ENVIRONMENT" "$log" -e ".${extras:+[$extras]}"; then
        tail -n 4 "$log" >&2
        fail "pip could not install the dependencies. They come from the package index: is there a network? All of it: $log"
    fi
    [[ $extras == dev ]] && add_bluepy "$ENVIRONMENT"
    printf '%s' "$key" >"$stamp"
}
