// Command otelprogram is a shop that sells nothing: a small program with the
// OpenTelemetry SDK that counts orders, open carts and durations, and sends them
// by OTLP over gRPC, as any instrumented program does.
package main
