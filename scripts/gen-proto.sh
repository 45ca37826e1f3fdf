#!/usr/bin/env bash
# Writes tracing/proto anew from the .proto files that Jaeger's Go modules publish:
# jaeger-idl in the version of go.mod, and for jaeger.api_v2.metrics, which later
# modules do not have, jaeger v1.62.0.
set -euo pipefail
cd "$(dirname "$0")/../tracing/proto/gen"

# folder MODULE@VERSION downloads it and prints where it lies.
folder() {
	go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p'
}

idl=$(cd ../../.. && go list -m -f '{{.Path}}@{{.Version}}' github.com/jaegertracing/jaeger-idl)
go run . -idl "$(folder "$idl")" -metrics "$(folder github.com/jaegertracing/jaeger@v1.62.0)" -out ..
gofmt -l -w ..
