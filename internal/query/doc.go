// Package query answers questions about stored samples the way Prometheus does:
// PromQL, series and labels, exemplars, metadata, remote read, federation and the
// status pages, under /api/v1/ and /federate.
//
// In: HTTP requests, and a storage to select from. Out: Prometheus' own answers,
// byte for byte, because Prometheus' web/api/v1 gives them. Only four doors are
// written here: /federate, which upstream binds to its whole web server;
// /api/v1/metadata, which upstream answers from scrape targets and this package
// from what was ingested; /api/v1/status/config, which shows Weir's settings; and
// /api/v1/query/explain, which tells what rollups would answer.
//
// The way of a request: [API.Register] puts one pattern a route on the mux;
// prom.go holds upstream's API; ready.go refuses with 503 while the storage is
// not open; metadata.go and federate.go (select) with exposition.go (encode) are
// the doors of our own.
//
// A storage that holds rollups ([Tiers]) is asked for them where that is better
// than samples: request.go takes the parameters, rollups.go plans a query (package
// plan) and puts selectors in the place of calls, rolled.go answers these from
// columns (package rangefn), told.go and explain.go say what was done.
//
// The package owns the PromQL engine, the file of running queries in the data
// directory and the query log; [API.Close] ends all three. It owns no sample:
// series are borrowed from the storage until the querier is closed.
//
// cmd and tests import it; it imports internal/conf, internal/rollup and upstream.
package query
