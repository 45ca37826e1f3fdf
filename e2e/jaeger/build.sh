#!/usr/bin/env bash
# Puts real Jaegers into the cache, once, each built from a module of its own here:
#
#   v1.62  all-in-one          the HTTP and gRPC APIs that Weir's are compared with
#   v1.76  remote-storage      jaeger.storage.v2 with memory or Badger behind it
#
# With --dir it prints their folder and builds nothing.
set -euo pipefail
cd "$(dirname "$0")"

cache=${WEIR_CACHE:-$HOME/.cache/weir}
key=$({ go env GOVERSION GOOS GOARCH; cat v*/go.sum; } | sha256sum | cut -c1-16)
dir=$cache/jaegers/$key
if [ "${1:-}" = --dir ]; then
	echo "$dir"
	exit
fi
[ -e "$dir/done" ] && exit

mkdir -p "$cache/jaegers"
new=$(mktemp -d "$cache/jaegers/new.XXXXXX")
trap 'rm -rf "$new"' EXIT
chmod 755 "$new"

echo "building Jaeger 1.62 and 1.76 into $dir, once (about 6 minutes of CPU)"
(cd v1.62 && go build -o "$new/all-in-one" github.com/jaegertracing/jaeger/cmd/all-in-one)
(cd v1.76 && go build -o "$new/remote-storage" github.com/jaegertracing/jaeger/cmd/remote-storage)

touch "$new/done"
rm -rf "$dir"
mv "$new" "$dir"
