#!/bin/sh
# Whether the programs of `make test-slurm` are here. RIG3R_INSTALL_SLURM=1 installs them, as root on Debian and its
# kin; otherwise one line says what to install.
set -eu
PATH="$PATH:/usr/sbin"
packages="slurm-wlm munge shellcheck"

missing=
for program in slurmctld slurmd munged shellcheck; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
[ -n "$missing" ] || exit 0

if [ "${RIG3R_INSTALL_SLURM:-}" = 1 ] && [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
else
    echo "test-slurm wants$missing: apt-get install -y $packages (as root, RIG3R_INSTALL_SLURM=1 does it)" >&2
    exit 1
fi
