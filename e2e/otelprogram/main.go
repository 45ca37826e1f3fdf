package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
)

func main() {
	endpoint := flag.String("endpoint", "127.0.0.1:4317", "`host:port` that takes OTLP over gRPC")
	interval := flag.Duration("interval", 5*time.Second, "time between two exports")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *endpoint, *interval); err != nil {
		fmt.Fprintln(os.Stderr, "otelprogram:", err)
		os.Exit(1)
	}
}

// run sells until ctx ends, then sends what is not sent yet.
func run(ctx context.Context, endpoint string, interval time.Duration) (err error) {
	exporter, err := otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpoint(endpoint), otlpmetricgrpc.WithInsecure())
	if err != nil {
		return fmt.Errorf("send OTLP to %s: %w", endpoint, err)
	}
	provider := sdk.NewMeterProvider(
		sdk.WithReader(sdk.NewPeriodicReader(exporter, sdk.WithInterval(interval))),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "shop"),
			attribute.String("service.namespace", "demo"),
			attribute.String("service.instance.id", "1"),
		)),
		// Weir stores it as a native histogram.
		sdk.WithView(sdk.NewView(
			sdk.Instrument{Name: "shop.payment.duration"},
			sdk.Stream{Aggregation: sdk.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 20}},
		)),
	)
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err = errors.Join(err, provider.Shutdown(ctx))
	}()
	return sell(ctx, provider.Meter("github.com/weir-dev/weir/e2e/otelprogram"))
}

// sell takes an order every 20 ms.
func sell(ctx context.Context, meter metric.Meter) error {
	orders, err1 := meter.Int64Counter("shop.orders", metric.WithDescription("Orders taken."))
	carts, err2 := meter.Int64UpDownCounter("shop.carts.open", metric.WithDescription("Carts not paid yet."))
	checkout, err3 := meter.Float64Histogram("shop.checkout.duration", metric.WithUnit("s"),
		metric.WithDescription("From cart to order."), metric.WithExplicitBucketBoundaries(0.05, 0.1, 0.25, 0.5, 1, 2.5))
	payment, err4 := meter.Float64Histogram("shop.payment.duration", metric.WithUnit("s"),
		metric.WithDescription("What the bank takes."))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			fmt.Printf("sold %d orders\n", i)
			return nil
		case <-tick.C:
		}
		country := metric.WithAttributes(attribute.String("country", []string{"at", "be", "ch"}[i%3]))
		orders.Add(ctx, 1, country)
		carts.Add(ctx, int64(rand.IntN(3))-1)
		checkout.Record(ctx, rand.ExpFloat64()*0.3, country)
		payment.Record(ctx, rand.ExpFloat64()*0.2, country)
	}
}
