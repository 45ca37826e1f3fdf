package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/weir-dev/weir/internal/store"
)

// door is a rig whose OTLP listeners run.
type door struct {
	*rig
	grpc, http string
	stopDoor   func()
}

// addresses catches the addresses that the receiver says it listens on.
type addresses struct {
	slog.Handler
	mu sync.Mutex
	at map[string]string
}

func (a *addresses) Enabled(context.Context, slog.Level) bool { return true }

func (a *addresses) WithAttrs([]slog.Attr) slog.Handler { return a }

func (a *addresses) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(attr slog.Attr) bool {
		if attr.Key == "endpoint" {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.at[r.Message] = attr.Value.String()
		}
		return true
	})
	return nil
}

func openDoor(t *testing.T, change ...func(*Config, *store.Config)) *door {
	t.Helper()
	return openDoorTo(t, nil, change...)
}

// openDoorTo takes spans too, unless take is nil.
func openDoorTo(t *testing.T, take TakeTraces, change ...func(*Config, *store.Config)) *door {
	t.Helper()
	seen := &addresses{Handler: slog.DiscardHandler, at: map[string]string{}}
	r := newRig(t, append(change, func(c *Config, _ *store.Config) {
		c.OTLP.GRPC.Endpoint, c.OTLP.HTTP.Endpoint = "127.0.0.1:0", "127.0.0.1:0"
	})...)
	r.in.log = slog.New(seen)
	var err error
	r.in.otlpIn, err = newOTLPServer(r.in)
	require.NoError(t, err)
	if take != nil {
		require.NoError(t, r.in.ReceiveTraces(take))
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- r.in.Run(ctx) }()
	d := &door{rig: r, stopDoor: sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-ran)
	})}
	t.Cleanup(d.stopDoor)
	require.Eventually(t, func() bool {
		seen.mu.Lock()
		defer seen.mu.Unlock()
		d.grpc, d.http = seen.at["Starting GRPC server"], seen.at["Starting HTTP server"]
		return d.grpc != "" && d.http != ""
	}, 10*time.Second, time.Millisecond)
	return d
}

// requests returns how many requests ended so.
func (d *door) requests(transport, result string) float64 {
	return testutil.ToFloat64(d.in.metrics.otlpRequests.WithLabelValues(transport, result))
}

// client is a connection for hand-made requests.
func (d *door) client(t *testing.T) pmetricotlp.GRPCClient {
	conn, err := grpc.NewClient(d.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return pmetricotlp.NewGRPCClient(conn)
}

// otlpGauge is a request with one point a value.
func otlpGauge(name string, values ...float64) pmetric.Metrics {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr("service.name", "shop")
	m := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName(name)
	for i, v := range values {
		p := m.SetEmptyGauge
		if i > 0 {
			p = m.Gauge
		}
		pt := p().DataPoints().AppendEmpty()
		pt.SetDoubleValue(v)
		pt.SetTimestamp(pcommon.NewTimestampFromTime(time.Now()))
		pt.Attributes().PutInt("i", int64(i))
	}
	return md
}

// TestOTLPFromSDK has real SDK exporters send to the receiver.
func TestOTLPFromSDK(t *testing.T) {
	d := openDoor(t)
	ctx := context.Background()
	for name, exporter := range map[string]func() (sdk.Exporter, error){
		"grpc": func() (sdk.Exporter, error) {
			return otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpoint(d.grpc), otlpmetricgrpc.WithInsecure())
		},
		"grpc_gzip": func() (sdk.Exporter, error) {
			return otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpoint(d.grpc), otlpmetricgrpc.WithInsecure(), otlpmetricgrpc.WithCompressor("gzip"))
		},
		"http": func() (sdk.Exporter, error) {
			return otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpoint(d.http), otlpmetrichttp.WithInsecure())
		},
		"http_gzip": func() (sdk.Exporter, error) {
			return otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpoint(d.http), otlpmetrichttp.WithInsecure(), otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression))
		},
		"http_delta": func() (sdk.Exporter, error) {
			return otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpoint(d.http), otlpmetrichttp.WithInsecure(), otlpmetrichttp.WithTemporalitySelector(sdk.DeltaTemporalitySelector))
		},
	} {
		exp, err := exporter()
		require.NoError(t, err, name)
		reader := sdk.NewManualReader(sdk.WithTemporalitySelector(exp.Temporality))
		provider := sdk.NewMeterProvider(sdk.WithReader(reader), sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", name), attribute.String("zone", "a"))))
		meter := provider.Meter("test")
		orders, err := meter.Int64Counter("shop.orders", metric.WithUnit("{order}"))
		require.NoError(t, err)
		took, err := meter.Float64Histogram("shop.duration", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(1, 2))
		require.NoError(t, err)
		for range 2 {
			orders.Add(ctx, 3, metric.WithAttributes(attribute.String("kind", "book")))
			took.Record(ctx, 1.5)
			sendCollected(t, exp, reader)
			time.Sleep(2 * time.Millisecond) // another millisecond, another sample
		}
		require.NoError(t, exp.Shutdown(ctx))
		got := d.newest(t, "job", name)
		require.InDelta(t, 6, got[fmt.Sprintf(`{__name__="shop_orders_total", job=%q, kind="book"}`, name)], 0, "3 and 3 more: cumulative")
		require.InDelta(t, 2, got[fmt.Sprintf(`{__name__="shop_duration_seconds_bucket", job=%q, le="2"}`, name)], 0)
		require.InDelta(t, 3, got[fmt.Sprintf(`{__name__="shop_duration_seconds_sum", job=%q}`, name)], 0)
		require.InDelta(t, 1, got[fmt.Sprintf(`{__name__="target_info", job=%q, zone="a"}`, name)], 0)
	}
	require.InDelta(t, 4, d.requests("grpc", "ok"), 0)
	require.InDelta(t, 6, d.requests("http", "ok"), 0)
	d.balanced(t)
}

// sendCollected exports what the instruments hold now.
func sendCollected(t *testing.T, exp sdk.Exporter, reader *sdk.ManualReader) {
	t.Helper()
	var rm metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(context.Background(), &rm))
	require.NoError(t, exp.Export(context.Background(), &rm))
}

// newest returns the newest value of every series with that label.
func (r *rig) newest(t *testing.T, name, value string) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	each(t, r.store, func(ls labels.Labels, x point) { out[ls.String()] = x.v }, labels.MustNewMatcher(labels.MatchEqual, name, value))
	return out
}

func (d *door) post(t *testing.T, media, encoding string, body []byte) (*http.Response, []byte) {
	t.Helper()
	return d.postTo(t, otlpMetricsPath, media, encoding, body)
}

func (d *door) postTo(t *testing.T, path, media, encoding string, body []byte) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+d.http+path, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", media)
	req.Header.Set("Content-Encoding", encoding)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, answer
}

// TestOTLPEncodings sends by hand what SDKs do not.
func TestOTLPEncodings(t *testing.T) {
	d := openDoor(t)
	for i, media := range []string{mediaProtobuf, mediaJSON, "application/json; charset=utf-8"} {
		for encoding, pack := range map[string]func([]byte) []byte{"": func(b []byte) []byte { return b }, "gzip": gzipped, "zstd": zstded} {
			name := fmt.Sprintf("metric_%d%s", i, encoding)
			req := pmetricotlp.NewExportRequestFromMetrics(otlpGauge(name, 7))
			marshal := req.MarshalJSON
			if media == mediaProtobuf {
				marshal = req.MarshalProto
			}
			body, err := marshal()
			require.NoError(t, err)
			resp, answer := d.post(t, media, encoding, pack(body))
			require.Equal(t, http.StatusOK, resp.StatusCode, "%s", answer)
			require.Len(t, d.newest(t, "__name__", name), 1)
		}
	}
	for _, compressor := range []string{"", "gzip", "zstd"} {
		name := "grpc" + compressor
		_, err := d.client(t).Export(context.Background(), pmetricotlp.NewExportRequestFromMetrics(otlpGauge(name, 7)), grpc.UseCompressor(compressor))
		require.NoError(t, err)
		require.Len(t, d.newest(t, "__name__", name), 1)
	}
	require.NotNil(t, encoding.GetCompressor("zstd"))
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func zstded(b []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(b, nil)
}

// TestOTLPCodec fails when pdata hides the type that the codec sets aside: then
// all would work, but slowly.
func TestOTLPCodec(t *testing.T) {
	c := newOTLPCodec()
	c.takeOver(reflect.TypeFor[ptraceotlp.ExportRequest](), tracesSignal)
	want := map[string]signal{"*internal.ExportMetricsServiceRequest": metricsSignal, "*internal.ExportTraceServiceRequest": tracesSignal}
	require.Len(t, c.signals, len(want))
	for request := range c.signals {
		require.Contains(t, want, request.String())
		v := reflect.New(request.Elem()).Interface()
		require.NoError(t, c.Unmarshal(mem.BufferSlice{mem.SliceBuffer("raw")}, v))
		sig, buf, ok := c.take(v)
		require.True(t, ok)
		require.Equal(t, want[request.String()], sig)
		require.Equal(t, "raw", string(buf.ReadOnlyData()))
		_, _, ok = c.take(v)
		require.False(t, ok)
	}
}

// TestOTLPTooLarge holds messages to the cap; others do not suffer.
func TestOTLPTooLarge(t *testing.T) {
	d := openDoor(t, func(c *Config, _ *store.Config) { c.OTLP.MaxRecvMsgSize = 4 << 10 })
	client := d.client(t)
	big := pmetricotlp.NewExportRequestFromMetrics(otlpGauge("big", make([]float64, 1000)...))
	small := func(name string) pmetricotlp.ExportRequest {
		return pmetricotlp.NewExportRequestFromMetrics(otlpGauge(name, 1))
	}
	for _, compressor := range []string{"", "gzip"} { // small on the wire, large behind it
		_, err := client.Export(context.Background(), big, grpc.UseCompressor(compressor))
		require.Equal(t, codes.ResourceExhausted, status.Code(err))
		require.ErrorContains(t, err, "larger than max")
		_, err = client.Export(context.Background(), small("after_"+compressor)) // over the same connection
		require.NoError(t, err)
	}
	require.InDelta(t, 2, d.requests("grpc", "body_too_large"), 0)
	body, err := big.MarshalProto()
	require.NoError(t, err)
	for encoding, b := range map[string][]byte{"": body, "zstd": zstded(body)} {
		resp, answer := d.post(t, mediaProtobuf, encoding, b)
		require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
		require.Contains(t, string(answer), "ingest.otlp.max_recv_msg_size (4096 bytes)")
	}
	require.InDelta(t, 2, d.requests("http", "body_too_large"), 0)
	require.Empty(t, d.newest(t, "__name__", "big"))
	d.balanced(t)
	require.Zero(t, d.in.flight.requests.Load())
	require.Zero(t, d.in.flight.bytes.Load())
}

// TestOTLPPartialSuccess refuses one of three points for its age.
func TestOTLPPartialSuccess(t *testing.T) {
	d := openDoor(t)
	partly := func(name string) pmetricotlp.ExportRequest {
		md := otlpGauge(name, 1, 2, 3)
		md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Gauge().DataPoints().At(1).SetTimestamp(pcommon.NewTimestampFromTime(time.Now().Add(time.Hour)))
		return pmetricotlp.NewExportRequestFromMetrics(md)
	}
	check := func(a pmetricotlp.ExportResponse, name string) {
		t.Helper()
		require.EqualValues(t, 1, a.PartialSuccess().RejectedDataPoints())
		require.Contains(t, a.PartialSuccess().ErrorMessage(), "too_far_in_future: 1 refused")
		require.Contains(t, a.PartialSuccess().ErrorMessage(), "ingest.limits.max_future_skew")
		require.Len(t, d.newest(t, "__name__", name), 2)
	}
	answer, err := d.client(t).Export(context.Background(), partly("by_grpc"))
	require.NoError(t, err)
	check(answer, "by_grpc")

	body, err := partly("by_http").MarshalProto()
	require.NoError(t, err)
	_, raw := d.post(t, mediaProtobuf, "", body)
	answer = pmetricotlp.NewExportResponse()
	require.NoError(t, answer.UnmarshalProto(raw))
	check(answer, "by_http")

	body, err = partly("by_json").MarshalJSON()
	require.NoError(t, err)
	_, raw = d.post(t, mediaJSON, "", body)
	answer = pmetricotlp.NewExportResponse()
	require.NoError(t, answer.UnmarshalJSON(raw))
	check(answer, "by_json")

	// Nothing good in it: an error that is not worth a second try.
	md := otlpGauge("all_bad", 1)
	md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Gauge().DataPoints().At(0).SetTimestamp(0)
	_, err = d.client(t).Export(context.Background(), pmetricotlp.NewExportRequestFromMetrics(md))
	require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
	require.InDelta(t, 1, d.requests("grpc", "partial"), 0)
	require.InDelta(t, 1, d.requests("grpc", "refused"), 0)
	require.InDelta(t, 2, d.requests("http", "partial"), 0)
	d.balanced(t)
}

// TestOTLPMalformed sends what is no message.
func TestOTLPMalformed(t *testing.T) {
	d := openDoor(t)
	for media, body := range map[string]string{mediaProtobuf: "\x0a\xff\xff\xff\x0f", mediaJSON: `{"resourceMetrics": [`} {
		resp, answer := d.post(t, media, "", []byte(body))
		require.Equal(t, http.StatusBadRequest, resp.StatusCode)
		require.Contains(t, string(answer), "decode otlp")
	}
	require.InDelta(t, 2, d.requests("http", "malformed_body"), 0)
	resp, _ := d.post(t, "text/plain", "", nil)
	require.Equal(t, http.StatusUnsupportedMediaType, resp.StatusCode)
	resp, err := http.Get("http://" + d.http + "/v1/metrics")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
	// Attributes are read only when a series is new; then they spoil the request.
	req := otlpGauge("bad_attribute", 1)
	raw, err := pmetricotlp.NewExportRequestFromMetrics(req).MarshalProto()
	require.NoError(t, err)
	raw = bytes.Replace(raw, []byte("\x0a\x01i"), []byte("\x0a\x7fi"), 1)
	resp, answer := d.post(t, mediaProtobuf, "", raw)
	require.Equal(t, http.StatusBadRequest, resp.StatusCode, "%s", answer)
	require.Empty(t, d.newest(t, "__name__", "bad_attribute"))
	d.balanced(t)
}

// TestOTLPUnavailable asks senders to come back when the store takes nothing, and
// when too much is in flight.
func TestOTLPUnavailable(t *testing.T) {
	d := openDoor(t)
	req := pmetricotlp.NewExportRequestFromMetrics(otlpGauge("late", 1))
	body, err := req.MarshalProto()
	require.NoError(t, err)
	check := func(says string) {
		t.Helper()
		_, err := d.client(t).Export(context.Background(), req)
		require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
		require.ErrorContains(t, err, says)
		resp, answer := d.post(t, mediaProtobuf, "", body)
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		require.Contains(t, string(answer), says)
		require.Regexp(t, "^[1-5]$", resp.Header.Get("Retry-After"))
	}
	d.in.flight.requests.Add(d.in.flight.maxRequests)
	check("ingest.max_in_flight_requests")
	d.in.flight.requests.Add(-d.in.flight.maxRequests)
	d.in.flight.bytes.Add(d.in.flight.maxBytes)
	check("ingest.max_in_flight_bytes")
	d.in.flight.bytes.Add(-d.in.flight.maxBytes)
	require.InDelta(t, 2, d.requests("grpc", "overload"), 0)
	require.InDelta(t, 2, d.requests("http", "overload"), 0)
	d.stop()
	check("unavailable")
	require.InDelta(t, 1, d.requests("grpc", "unavailable"), 0)
	require.InDelta(t, 1, d.requests("http", "unavailable"), 0)
	require.Zero(t, d.in.flight.requests.Load())
	d.balanced(t)
}

// TestOTLPTLS serves both endpoints with a certificate and asks for one.
func TestOTLPTLS(t *testing.T) {
	dir := t.TempDir()
	pair, pool := certificate(t, dir)
	d := openDoor(t, func(c *Config, _ *store.Config) {
		c.OTLP.TLS.CertFile, c.OTLP.TLS.KeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		c.OTLP.TLS.ClientCAFile = filepath.Join(dir, "cert.pem")
	})
	for _, with := range []*tls.Config{{RootCAs: pool, Certificates: []tls.Certificate{pair}}, {RootCAs: pool}} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		h, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpoint(d.http), otlpmetrichttp.WithTLSClientConfig(with), otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{}))
		require.NoError(t, err)
		g, err := otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpoint(d.grpc), otlpmetricgrpc.WithTLSCredentials(credentials.NewTLS(with)), otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{}))
		require.NoError(t, err)
		for _, exp := range []sdk.Exporter{h, g} {
			err := exp.Export(ctx, &metricdata.ResourceMetrics{Resource: resource.Empty(), ScopeMetrics: []metricdata.ScopeMetrics{{Metrics: []metricdata.Metrics{{
				Name: "secret", Data: metricdata.Gauge[int64]{DataPoints: []metricdata.DataPoint[int64]{{Time: time.Now(), Value: 1}}},
			}}}}})
			if len(with.Certificates) > 0 {
				require.NoError(t, err)
			} else {
				require.Error(t, err)
			}
			require.NoError(t, exp.Shutdown(context.Background()))
		}
		cancel()
	}
	require.Len(t, d.newest(t, "__name__", "secret"), 1)
}

// certificate writes cert.pem and key.pem for 127.0.0.1, its own authority.
func certificate(t *testing.T, dir string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "weir"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cert.pem"), certPEM, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "key.pem"), keyPEM, 0o600))
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(certPEM))
	return pair, pool
}

// TestOTLPDrain stops while senders dawdle over their messages, and leaves
// nothing running.
func TestOTLPDrain(t *testing.T) {
	before := goleak.IgnoreCurrent()
	d := openDoor(t)
	d.in.otlpIn.drain = 100 * time.Millisecond
	conn, err := net.Dial("tcp", d.http)
	require.NoError(t, err)
	_, err = fmt.Fprintf(conn, "POST /v1/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\nabc", mediaProtobuf)
	require.NoError(t, err)
	cc, err := grpc.NewClient(d.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	stream, err := cc.NewStream(context.Background(), &grpc.StreamDesc{ClientStreams: true}, "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return d.in.flight.requests.Load() == 2 }, 5*time.Second, time.Millisecond)
	start := time.Now()
	d.stopDoor()
	require.Less(t, time.Since(start), 5*time.Second)
	require.Error(t, stream.RecvMsg(&collectormetrics.ExportMetricsServiceResponse{}))
	require.Eventually(t, func() bool { return d.in.flight.requests.Load() == 0 }, 5*time.Second, time.Millisecond)
	require.NoError(t, conn.Close())
	require.NoError(t, cc.Close())
	d.stop()
	goleak.VerifyNone(t, before)
}
