#!/usr/bin/env bash
# Puts the real servers that Weir is compared with into the cache, once:
# prometheus and promtool, built from the versions in go.mod, and Debian's
# prometheus-node-exporter. With --dir it prints their folder and builds nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${WEIR_CACHE:-$HOME/.cache/weir}
key=$({ go env GOVERSION GOOS GOARCH; cat go.sum; } | sha256sum | cut -c1-16)
dir=$cache/peers/$key
if [ "${1:-}" = --dir ]; then
	echo "$dir"
	exit
fi
[ -e "$dir/done" ] && exit

mkdir -p "$cache/peers"
new=$(mktemp -d "$cache/peers/new.XXXXXX")
trap 'rm -rf "$new"' EXIT
chmod 755 "$new"

echo "building prometheus and promtool into $dir, once (about 5 minutes of CPU)"
go build -o "$new/" \
	github.com/prometheus/prometheus/cmd/prometheus \
	github.com/prometheus/prometheus/cmd/promtool

# Unpacked instead of installed, because the installed package starts a service
# that listens on all addresses.
exporter=$(command -v prometheus-node-exporter || true)
if [ -n "$exporter" ]; then
	ln -s "$exporter" "$new/prometheus-node-exporter"
else
	unpack() {
		(cd "$new" && apt-get download -qq prometheus-node-exporter &&
			dpkg-deb --fsys-tarfile prometheus-node-exporter_*.deb |
			tar -xO ./usr/bin/prometheus-node-exporter >prometheus-node-exporter &&
			chmod 755 prometheus-node-exporter && rm prometheus-node-exporter_*.deb)
	}
	unpack 2>/dev/null || { # a fresh machine has no package lists
		if [ "$(id -u)" -eq 0 ]; then apt-get update -qq; else sudo -n apt-get update -qq; fi && unpack
	} || {
		rm -f "$new"/prometheus-node-exporter*
		echo "could not get prometheus-node-exporter, so its metrics will be missing; run: apt-get install prometheus-node-exporter" >&2
	}
fi

touch "$new/done"
rm -rf "$dir"
mv "$new" "$dir"
