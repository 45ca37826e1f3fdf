package jaegerrpc

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/weir-dev/weir/tracing/proto/expressionv1"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

func TestFilters(t *testing.T) {
	for _, c := range []struct {
		filter string
		want   spanstore.Query
		fault  string
	}{
		{filter: `{"op":"eq","args":[{"attr":{"key":"http.status"}},{"scalar":{"value":"500"}}]}`,
			want: spanstore.Query{Where: []spanstore.Condition{{Key: "http.status", Op: spanstore.Equal, Value: "500"}}}},
		{filter: `{"op":"and","args":[
			{"call":{"op":"eq","args":[{"field":{"name":"service","level":"resource"}},{"scalar":{"value":"cart"}}]}},
			{"call":{"op":"and","args":[
				{"call":{"op":"eq","args":[{"field":{"name":"name","level":"span"}},{"scalar":{"value":"GET"}}]}},
				{"call":{"op":"eq","args":[{"field":{"name":"kind","level":"span"}},{"scalar":{"value":"server"}}]}},
				{"call":{"op":"eq","args":[{"field":{"name":"status","level":"span"}},{"scalar":{"value":"error"}}]}}]}},
			{"call":{"op":"gte","args":[{"field":{"name":"duration","level":"span"}},{"scalar":{"value":"2s"}}]}},
			{"call":{"op":"lte","args":[{"field":{"name":"duration","level":"span"}},{"scalar":{"value":"9s"}}]}},
			{"call":{"op":"lte","args":[{"field":{"name":"duration","level":"span"}},{"scalar":{"value":"1m"}}]}}]}`,
			want: spanstore.Query{
				Service: "cart", Operation: "GET", Kind: span.KindServer, Error: new(true),
				MinDuration: 2 * time.Second, MaxDuration: 9 * time.Second,
			}},
		{filter: `{"op":"or"}`, fault: `operator "or" is not supported`},
		{filter: `{}`, fault: `operator "" is not supported`},
		{filter: `{"op":"and","args":[{"call":{"op":"eq"}}]}`, fault: "want 2 or more"},
		{filter: `{"op":"and","args":[{"scalar":{}},{"scalar":{}}]}`, fault: "not a predicate"},
		{filter: `{"op":"eq","args":[{"scalar":{"value":"1"}},{"scalar":{"value":"1"}}]}`, fault: "neither an attribute nor a field"},
		{filter: `{"op":"eq","args":[{"attr":{"key":"a"}},{"attr":{"key":"b"}}]}`, fault: "not a scalar"},
		{filter: `{"op":"gte","args":[{"attr":{"key":"a"}},{"scalar":{"value":"1"}}]}`, fault: "only eq is"},
		{filter: `{"op":"eq","args":[{"attr":{"key":"a","level":"event"}},{"scalar":{"value":"1"}}]}`, fault: `level "event"`},
		{filter: `{"op":"eq","args":[{"attr":{"key":"a"}},{"scalar":{"value":"1","type":"int"}}]}`, fault: `type "int"`},
		{filter: `{"op":"gte","args":[{"field":{"name":"duration","level":"span"}},{"scalar":{"value":"2"}}]}`, fault: "its unit"},
		{filter: `{"op":"eq","args":[{"field":{"name":"kind","level":"span"}},{"scalar":{"value":"boss"}}]}`, fault: `got "boss"`},
		{filter: `{"op":"eq","args":[{"field":{"name":"traceID","level":"span"}},{"scalar":{"value":"1"}}]}`, fault: `span.traceID`},
		{filter: `{"op":"and","args":[
			{"call":{"op":"eq","args":[{"field":{"name":"name","level":"span"}},{"scalar":{"value":"a"}}]}},
			{"call":{"op":"eq","args":[{"field":{"name":"name","level":"span"}},{"scalar":{"value":"b"}}]}}]}`, fault: "two values"},
	} {
		var call expressionv1.Call
		require.NoError(t, protojson.Unmarshal([]byte(c.filter), &call))
		var got spanstore.Query
		err := narrow(&got, &call)
		if c.fault != "" {
			require.ErrorContains(t, err, c.fault, c.filter)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
}
