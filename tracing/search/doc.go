// Package search finds traces by more than Jaeger's APIs can say, and tells what is in
// many of them at once.
//
//	q=... ──> Parse ──> store query of one selector ──> spanstore.Reader.Find
//	                └─> the rest, verified on whole traces ──┤
//	                          summaries  <───────────────────┤  /api/v1/traces/search
//	                          operations, errors, heat map <─┤  /api/v1/traces/analyze
//	                          gauges of saved searches <─────┘
//	trace id ──> spanstore.Reader.Trace ──> tree, self time, critical path   /api/v1/traces/{id}
//
// # The language
//
//	service=checkout && duration>200ms && http.status_code>=500
//	status=error && kind=server && operation=~"POST .*"
//	{service=frontend} -> {service=cart && status=error}
//	{root && duration>1s} ->> {db.system=postgresql} && {retried}
//
// A selector is terms joined by &&, all true of one span. Terms compare a key by one of
// = != < <= > >= =~ !~ with a value; a key alone asks that the attribute is there.
// Keys of a span itself are service, operation (or name), kind, status (ok, error,
// unset), duration, and root, which stands alone; all others are attributes, as is
// any key in quotes. Values with spaces or one of {}"`&|=!<>~ go into quotes, as Go
// writes them. Patterns are RE2 and cover the whole value. A negative operator asks
// that there is a value.
//
// Selectors in braces are joined by -> (the right span is a child of the left one) and
// ->> (it is anywhere below), and such chains by &&: a trace has to have all of them.
// Every span that a selector stands for starts in the window of the search.
//
// In:   requests and saved searches; the memory of batches that the reader hands out.
// Out:  JSON in Prometheus' envelope, of the types Found, Trace and Analysis; gauges.
// Owns: no memory beyond a request: what it keeps of a trace it copies.
//
// The room and package main may import it.
package search
