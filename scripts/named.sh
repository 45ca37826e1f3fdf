#!/usr/bin/env bash
# Fails when no test of PACKAGE has a name that matches: named.sh PATTERN [FLAG...] PACKAGE
# `go test -run` itself is content with none.
set -euo pipefail

if [ -z "$(go test -list "$1" "${@:2}" | grep -E "$1" || true)" ]; then
	echo "no test in ${*:2} matches $1" >&2
	exit 1
fi
