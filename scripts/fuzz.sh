#!/usr/bin/env bash
# Runs every fuzz target of the module in turn: fuzz.sh DURATION
set -euo pipefail
cd "$(dirname "$0")/.."

time=${1:?want a duration, such as 30s}
grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sort | while IFS=: read -r file decl; do
	name=${decl#func }
	echo "== $name in $(dirname "$file")"
	# Shrinking each interesting input for the usual minute leaves no time to find any.
	go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 10x "$(dirname "$file")" </dev/null
done
