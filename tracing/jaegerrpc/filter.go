package jaegerrpc

import (
	"slices"
	"strings"
	"time"

	"github.com/weir-dev/weir/tracing/proto/expressionv1"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// narrow puts a filter (Jaeger's RFC 0005) into a query. It takes the filters that mean
// exactly what a query without one can say, alone or joined by "and":
//
//	eq   an attribute of no level, resource.service, span.name, span.kind, span.status (error)
//	gte  span.duration
//	lte  span.duration
//
// It refuses all others, rather than to answer with traces that were not asked for.
func narrow(q *spanstore.Query, call *expressionv1.Call) error {
	if call.GetOp() == "and" {
		if len(call.GetArgs()) < 2 {
			return badf(`filter: "and" has %d operands, want 2 or more`, len(call.GetArgs()))
		}
		for _, arg := range call.GetArgs() {
			if arg.GetCall() == nil {
				return badf(`filter: an operand of "and" is not a predicate`)
			}
			if err := narrow(q, arg.GetCall()); err != nil {
				return err
			}
		}
		return nil
	}
	if !slices.Contains([]string{"eq", "gte", "lte"}, call.GetOp()) {
		return badf("filter: operator %q is not supported, only and, eq, gte and lte are", call.GetOp())
	}
	if len(call.GetArgs()) != 2 {
		return badf("filter: %q has %d operands, want 2", call.GetOp(), len(call.GetArgs()))
	}
	left, right := call.GetArgs()[0], call.GetArgs()[1].GetScalar()
	if right == nil {
		return badf("filter: the second operand of %q is not a scalar", call.GetOp())
	}
	switch {
	case left.GetAttr() != nil:
		return narrowAttribute(q, call.GetOp(), left.GetAttr(), right)
	case left.GetField() != nil:
		return narrowField(q, call.GetOp(), left.GetField(), right.GetValue())
	}
	return badf("filter: the first operand of %q is neither an attribute nor a field", call.GetOp())
}

func narrowAttribute(q *spanstore.Query, op string, attr *expressionv1.AttributeReference, constant *expressionv1.Scalar) error {
	switch {
	case op != "eq":
		return badf("filter: %q of attribute %q is not supported, only eq is", op, attr.GetKey())
	case attr.GetLevel() != "":
		return badf("filter: attribute %q of level %q is not supported, only of no level", attr.GetKey(), attr.GetLevel())
	case attr.GetKey() == "":
		return badf("filter: an attribute has no key")
	case constant.GetType() != "":
		return badf("filter: a constant of type %q is not supported, only without a type", constant.GetType())
	}
	q.Where = append(q.Where, spanstore.Condition{Key: attr.GetKey(), Op: spanstore.Equal, Value: constant.GetValue()})
	return nil
}

func narrowField(q *spanstore.Query, op string, field *expressionv1.FieldReference, value string) error {
	name := field.GetLevel() + "." + field.GetName()
	switch op + " " + name {
	case "eq resource.service":
		return once(&q.Service, value, name)
	case "eq span.name":
		return once(&q.Operation, value, name)
	case "eq span.kind":
		kind, ok := parseKind(value)
		if !ok || kind == span.KindUnspecified {
			return badf("filter: span.kind: got %q, want internal, server, client, producer or consumer", value)
		}
		return once(&q.Kind, kind, name)
	case "eq span.status":
		if !strings.EqualFold(value, "error") {
			return badf("filter: span.status: got %q, only error is supported", value)
		}
		q.Error = new(true)
		return nil
	case "gte span.duration", "lte span.duration":
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return badf("filter: span.duration: got %q, want a duration above 0 with its unit, such as 2s", value)
		}
		if op == "gte" {
			q.MinDuration = max(q.MinDuration, d)
		} else if q.MaxDuration == 0 || d < q.MaxDuration {
			q.MaxDuration = d
		}
		return nil
	}
	return badf("filter: %q of field %q is not supported", op, name)
}

// once sets a field of the query that holds one value.
func once[T comparable](field *T, value T, name string) error {
	var none T
	if value == none {
		return badf("filter: %s is compared with nothing", name)
	}
	if *field != none && *field != value {
		return badf("filter: %s is compared with two values", name)
	}
	*field = value
	return nil
}
