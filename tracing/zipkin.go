package tracing

import (
	"net/http"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/translator/zipkin/zipkinv1"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/translator/zipkin/zipkinv2"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// zipkin answers what Zipkin's clients post: /api/v2/spans in JSON and protobuf, and
// /api/v1/spans in JSON. Tags stay strings.
func (t *Tracing) zipkin() http.Handler {
	v1 := zipkinv1.NewJSONTracesUnmarshaler(false).UnmarshalTraces
	v2 := zipkinv2.NewJSONTracesUnmarshaler(false).UnmarshalTraces
	proto := zipkinv2.NewProtobufTracesUnmarshaler(false, false).UnmarshalTraces
	mux := http.NewServeMux()
	mux.Handle("POST /api/v2/spans", t.receive(protoZipkin, func(media string) func([]byte) (ptrace.Traces, error) {
		switch media {
		case "application/json":
			return v2
		case "application/x-protobuf":
			return proto
		}
		return nil
	}))
	mux.Handle("POST /api/v1/spans", t.receive(protoZipkin, func(media string) func([]byte) (ptrace.Traces, error) {
		if media == "application/json" {
			return v1
		}
		return nil
	}))
	return mux
}
