// Package server holds the listeners: who may connect, how long a request may
// take to arrive, and how the process leaves without cutting anyone off.
//
// In: TCP connections, and a handler with the doors of the rooms. Out: requests
// on that handler, plus the operators' doors: /-/healthy, /-/ready, /-/reload,
// /metrics and a page at / that lists the doors. Profiles (/debug/pprof/) exist
// only on the admin listener, which is off unless configured.
//
// The way of a connection: listen.go (socket, limit of connections, TLS and
// authentication by exporter-toolkit's web config file, which it reads again by
// itself), deadlines.go (time for a body, time for an answer), measure.go
// (counts and durations), doors.go (the operators' doors), then the rooms.
// server.go starts and drains it.
//
// [Server] owns its sockets from Open until Run returns or Close is called. It
// owns no request and no byte of a body.
//
// Only cmd and tests import it; it imports internal/conf and upstream.
package server
