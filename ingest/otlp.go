package ingest

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/otlptranslator"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weir-dev/weir/ingest/internal/wire"
)

// otlp turns OTLP metrics into batches for the writer:
//
//	otlpserver.go  the collector's otlpreceiver: listeners, TLS, compression
//	otlphttp.go    requests over HTTP, protobuf and JSON, and their answers
//	otlpgrpc.go    requests over gRPC
//	otlptraces.go  spans, for which this room is but the door
//	otlp.go        one request from bytes to verdict
//	wire/otlp*.go  bytes to points
//	otlpfill.go    points to samples, each with the key of its series
//	otlpnative.go  exponential and custom buckets to native histograms
//	otlpsource.go  labels of series not seen before, by Prometheus' translator
//	otlpdelta.go   delta temporality to cumulative
//
// A point of a known series costs a hash of its attributes' bytes and a look-up.
// Labels are made only for unknown keys, and by Prometheus' own translator, so
// that names follow it to the letter. What it does to values is done here and
// held against it by TestOTLPAgainstPrometheus.
//
// Where we differ from Prometheus' receiver on purpose: points are refused one
// by one, not by metric and request; samples that arrive again or late, of
// target_info too, are settled as at every other door; target_info is bounded
// (maxInfoSamples); exponential buckets finer than schema 8 are merged right
// (sparse); deltas are always converted (otlpdelta.go).
type otlp struct {
	w    *writer
	log  *slog.Logger
	seed [2]maphash.Seed

	batches     *batchPool
	requests    sync.Pool // *otlpRequest
	translation atomic.Pointer[translation]
	infos       resourceInfos
}

// translation is the part of the config that decides labels. It is replaced as
// a whole on reload; its number goes into every key, so that no key outlives it.
type translation struct {
	settings prometheusremotewrite.Settings
	number   uint64
}

func newOTLP(cfg OTLPConfig, w *writer, batches *batchPool, log *slog.Logger) *otlp {
	o := &otlp{w: w, log: log, seed: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, batches: batches}
	o.apply(cfg)
	return o
}

// apply takes over the settings of translation.
func (o *otlp) apply(cfg OTLPConfig) {
	next := &translation{settings: settingsOf(cfg)}
	if last := o.translation.Load(); last != nil {
		next.number = last.number + 1
	}
	o.translation.Store(next)
}

func settingsOf(cfg OTLPConfig) prometheusremotewrite.Settings {
	strategy := otlptranslator.TranslationStrategyOption(cfg.TranslationStrategy)
	return prometheusremotewrite.Settings{
		AddMetricSuffixes: strategy.ShouldAddSuffixes(),
		AllowUTF8:         !strategy.ShouldEscape(),
		PromoteResourceAttributes: prometheusremotewrite.NewPromoteResourceAttributes(config.OTLPConfig{
			PromoteAllResourceAttributes: cfg.PromoteAllResourceAttributes,
			PromoteResourceAttributes:    cfg.PromoteResourceAttributes,
			IgnoreResourceAttributes:     cfg.IgnoreResourceAttributes,
		}),
		KeepIdentifyingResourceAttributes:    cfg.KeepIdentifyingResourceAttributes,
		ConvertHistogramsToNHCB:              cfg.ConvertHistogramsToNHCB,
		PromoteScopeMetadata:                 cfg.PromoteScopeMetadata,
		LabelNameUnderscoreSanitization:      cfg.LabelNameUnderscoreSanitization,
		LabelNamePreserveMultipleUnderscores: cfg.LabelNamePreserveMultipleUnderscores,
		LookbackDelta:                        lookback,
	}
}

// consume writes a request that somebody else has decoded: JSON, which is too
// rare to have a reader of its own.
func (o *otlp) consume(ctx context.Context, md pmetric.Metrics) error {
	raw, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
	if err != nil {
		return status.Error(codes.InvalidArgument, fmt.Sprintf("encode otlp: %v", err))
	}
	return o.receive(ctx, raw)
}

// receive writes one request, an ExportMetricsServiceRequest in protobuf. The
// error carries a gRPC status; points refused beside others that are stored
// make no error but are noted in the call of ctx.
func (o *otlp) receive(ctx context.Context, raw []byte) error {
	b := o.batches.get(protoOTLP)
	defer o.batches.put(b)
	q := o.request()
	defer o.done(q)
	if err := q.decode(raw); err != nil {
		return malformed(raw, err)
	}
	b.src = q
	q.fill(b)
	for k, n := range b.sizes() {
		o.w.ledger.received[protoOTLP][k].Add(uint64(n + q.early[k]))
	}
	if err := o.w.write(ctx, b); err != nil {
		b.refuseAll(badRequest)
		b.flush(o.w.ledger)
		return malformed(raw, err)
	}
	b.flush(o.w.ledger)
	return o.conclude(callOf(ctx), b, q)
}

// decode reads raw, in the shape that our reader knows or in any.
func (q *otlpRequest) decode(raw []byte) error {
	err := q.Decode(raw)
	if !errors.Is(err, wire.ErrUnusual) {
		return err
	}
	general := pmetricotlp.NewExportRequest()
	if err := general.UnmarshalProto(raw); err != nil {
		return err
	}
	if raw, err = general.MarshalProto(); err != nil {
		return err
	}
	return q.Decode(raw)
}

func malformed(raw []byte, err error) error {
	return status.Error(codes.InvalidArgument, fmt.Sprintf("decode otlp (%d bytes): %v", len(raw), err))
}

// conclude turns a written batch into an answer.
func (o *otlp) conclude(call *otlpCall, b *batch, q *otlpRequest) error {
	if b.failed != nil {
		call.result = "unavailable"
		return unavailableStatus(b.complaint())
	}
	rejected := q.rejected()
	switch {
	case rejected == 0:
		call.result = "ok"
	case rejected == len(q.Points):
		call.result = "refused"
		return status.Error(codes.InvalidArgument, b.complaint())
	default:
		call.result = "partial"
		call.rejected, call.message = int64(rejected), b.complaint()
	}
	return nil
}

// unavailableStatus asks the sender to try again, over gRPC (UNAVAILABLE) and
// HTTP (503 with Retry-After), after a time as [retryAfter] has it.
func unavailableStatus(text string) error {
	s := status.New(codes.Unavailable, text)
	delay := durationpb.New(time.Duration(1+rand.IntN(5)) * time.Second)
	if with, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: delay}); err == nil {
		s = with
	}
	return s.Err()
}

// complaint is the text of a refusing answer.
func (b *batch) complaint() string {
	return b.say.text(func(o outcome) int {
		n := 0
		for k := range numKinds {
			n += b.total(k, o)
		}
		return n
	})
}

// spoil notes that a sample of series i was refused, for a source that answers
// in data points.
func (b *batch) spoil(i int) {
	if q, ok := b.src.(*otlpRequest); ok {
		q.at[i].refused = true
	}
}

// isDelta reports whether series i carries a delta.
func (b *batch) isDelta(i int) bool {
	q, ok := b.src.(*otlpRequest)
	return ok && q.at[i].delta
}
