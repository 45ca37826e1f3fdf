#!/usr/bin/env bash
# Installs the Debian packages of missing commands: setup.sh COMMAND=PACKAGE...
# Does nothing when all commands are there. Needs root or sudo otherwise.
set -euo pipefail

missing=()
for pair in "$@"; do
	command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
		echo "missing packages, and neither root nor sudo without a password; run: apt-get install ${missing[*]}" >&2
		exit 1
	fi
	as_root=(sudo -n)
fi
if ! command -v apt-get >/dev/null; then
	echo "missing packages, and no apt-get; install what Debian calls: ${missing[*]}" >&2
	exit 1
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
