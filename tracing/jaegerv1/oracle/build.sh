#!/usr/bin/env bash
# Builds the oracle (Jaeger v1.62's query handler) into the cache, once, and prints its
# path: about 250 s of CPU where nothing of it is compiled yet.
set -euo pipefail
cd "$(dirname "$0")"

key=$({ go env GOVERSION GOOS GOARCH; cat go.sum ./*.go; } | sha256sum | cut -c1-16)
program=${WEIR_CACHE:-$HOME/.cache/weir}/jaeger-oracle/$key/oracle
if [ ! -e "$program" ]; then
	mkdir -p "${program%/*}"
	go build -trimpath -o "$program.new.$$" . >&2
	mv "$program.new.$$" "$program"
fi
echo "$program"
