#!/bin/sh
# Makes .venv and installs rig3r_jax in it:          sh launch/setup.sh train   (or train-tf,dev; core: without extras)
# Only prints the interpreter that it would take:    sh launch/setup.sh --find
# PYTHON=/path/to/python takes that interpreter and no other. A mark .venv/.have-EXTRA tells make what is there.
set -eu

USAGE="usage: sh launch/setup.sh EXTRA[,EXTRA...], core for none, or --find; extras: train, train-tf, data, export, rerun, video, view, dev, torch, cuda12, cuda13, flash, tokamax"

say() { echo "$*" >&2; }

# Refuses what is no extra before anything is made: pip would install the rest.
check_extras() {
    rest=$1,
    while [ -n "$rest" ]; do
        extra=${rest%%,*} rest=${rest#*,}
        case $extra in
            train | train-tf | data | export | rerun | video | view | dev | torch | cuda12 | cuda13 | flash | tokamax) ;;
            *)
                say "'$extra' is not an extra; $USAGE"
                return 2
                ;;
        esac
    done
}

# An interpreter counts when it really runs: a pyenv shim is on the PATH for versions that do not.
runs() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }
makes_venvs() { "$1" -c 'import venv, ensurepip' >/dev/null 2>&1; }
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

find_uv() { command -v uv || command -v "${HOME:-}/.local/bin/uv"; }

find_interpreter() {
    without_venv=
    for candidate in ${PYTHON:-python3.12 python3.11 python3.13 python3}; do
        runs "$candidate" || continue
        if makes_venvs "$candidate"; then
            echo "$candidate"
            return
        fi
        without_venv=${without_venv:-$candidate}
    done
    if [ -n "${PYTHON:-}" ] || ! find_uv; then
        say "$(remedy)"
        return 1
    fi
}

# One line that says what is missing and the command that brings it.
remedy() {
    sudo="sudo "
    [ "$(id -u 2>/dev/null)" != 0 ] || sudo=
    if [ -n "$without_venv" ]; then
        echo "$without_venv has no venv module: ${sudo}apt-get install -y python$(version "$without_venv")-venv"
        return
    elif [ -n "${PYTHON:-}" ]; then
        echo "PYTHON=$PYTHON is no Python 3.11, 3.12 or 3.13 that runs: name another, or leave PYTHON out"
        return
    fi
    none="No Python 3.11, 3.12 or 3.13 runs here:"
    for number in 3.12 3.11 3.13; do
        if apt-cache show "python$number" >/dev/null 2>&1; then
            echo "$none ${sudo}apt-get install -y python$number python$number-venv"
            return
        fi
    done
    if command -v brew >/dev/null; then
        echo "$none brew install python@3.12"
    elif command -v dnf >/dev/null; then
        echo "$none ${sudo}dnf install -y python3.12"
    elif command -v apt-get >/dev/null && ! command -v python3 >/dev/null; then
        echo "$none ${sudo}apt-get update && ${sudo}apt-get install -y python3 python3-venv"
    else
        echo "$none python3 -m pip install --user uv   (make then lets uv fetch Python 3.12)"
    fi
}

make_venv() {
    interpreter=$(find_interpreter)
    rm -rf .venv
    case $interpreter in
        *uv) "$interpreter" venv --quiet --seed --python 3.12 .venv ;;
        *) "$interpreter" -m venv .venv ;;
    esac
}

if [ $# != 1 ]; then
    say "$USAGE"
    exit 2
elif [ "$1" = --find ]; then
    find_interpreter
    exit
elif [ "$1" = --help ]; then
    echo "$USAGE"
    exit
fi

extras=$1
case $extras in
    core) package=rig3r_jax place=. ;;
    *)
        check_extras "$extras"
        package="rig3r_jax[$extras]" place=".[$extras]"
        ;;
esac
cd "$(dirname "$0")/.."
if ! runs .venv/bin/python || ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    make_venv
elif [ -n "${PYTHON:-}" ] && [ "$(version "$PYTHON" 2>/dev/null)" != "$(version .venv/bin/python)" ]; then
    make_venv
fi

case $extras in
    core) size="about 250 MB (0.9 GB on disk)" ;;
    torch) size="200 MB where the CPU build is at hand, else several GB" ;;
    *train-tf*) size="about 670 MB (2.5 GB on disk)" ;;
    *) size="about 330 MB (1.3 GB on disk)" ;;
esac
case $extras in
    *cuda12*) size="$size and 3.2 GB of CUDA libraries" ;;
    *cuda13*) size="$size and 2.5 GB of CUDA libraries" ;;
esac
case ,$extras, in
    ,torch,) ;;
    *,torch,*) size="$size, and PyTorch: 200 MB where the CPU build is at hand, else several GB" ;;
esac
say "Installing $package in .venv with Python $(version .venv/bin/python): downloads $size, takes some minutes."
[ -t 1 ] && quiet= || quiet=--quiet
# Python compiles the modules that it imports; pip would compile them all.
.venv/bin/python -m pip install --disable-pip-version-check --no-compile $quiet --constraint constraints.txt --editable "$place"
# Where bytecode is turned off, as in many container images, every start would compile jax and its kin again: 5 s.
[ -z "${PYTHONDONTWRITEBYTECODE:-}" ] || env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -c 'import rig3r_jax.cli.tasks'
[ -z "${PYTHON:-}" ] || echo "$PYTHON" > .venv/.interpreter
for extra in $(echo "$extras" | tr , ' '); do
    touch ".venv/.have-$extra"
done
