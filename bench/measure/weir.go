package measure

import "fmt"

// WeirConfig is Weir's defaults with directory and ports of our own, the query limits
// that the other servers get by flag, and no drain delay. It scrapes nothing: beside
// samples of now, those of a load may be too old. store and query are more lines of
// these sections.
func WeirConfig(dataDir string, ports []string, store, query string) []byte {
	return fmt.Appendf(nil, `server:
  listen: %s
  drain_delay: 0s
store:
  dir: %s
%singest:
  otlp:
    http:
      endpoint: %s
    grpc:
      endpoint: %s
tracing:
  enabled: false
query:
  max_samples: 500000000
  timeout: 10m
%sself_scrape:
  interval: 0s
`, ports[0], dataDir, store, ports[1], ports[2], query)
}
