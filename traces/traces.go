package traces

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/keyway-proxy/keyway/journey"
)

const (
	// maxWaiting is how many journeys may wait to become traces.
	maxWaiting = 2048
	// Spans leave soon, so that who looks for a command finds it.
	maxDelay = time.Second
	// maxExport is how long a batch may take, with all attempts to send it.
	maxExport = 10 * time.Second
)

// Options say where traces go, and what they show.
type Options struct {
	URL      string // of the collector
	Service  string // its name; the environment's OTEL_SERVICE_NAME wins
	Version  string
	Instance string
	HasKeys  bool // the first keys of commands are shown
	HasHash  bool // their hashes are shown
	Log      *slog.Logger
	Counts   *Counts
}

// Counts count traces. Several exporters, one after another, can share them.
type Counts struct {
	Sent, Failed, Dropped atomic.Uint64
}

// Exporter sends the traces of journeys until it is closed.
type Exporter struct {
	o        Options
	waiting  chan followed
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	closing  chan struct{}
	closed   chan struct{}
}

// followed is a journey of a pool.
type followed struct {
	pool string
	journey.Journey
}

// New returns an exporter. It does not connect yet.
func New(o Options) (*Exporter, error) {
	ctx := context.Background()
	to, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(o.URL),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: true, InitialInterval: time.Second, MaxInterval: time.Second, MaxElapsedTime: maxExport / 2,
		}))
	if err != nil {
		return nil, fmt.Errorf("traces.endpoint: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		o.Log.Warn("a problem with OpenTelemetry", "error", err)
	}))
	from, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		semconv.ServiceName(o.Service), semconv.ServiceVersion(o.Version), semconv.ServiceInstanceID(o.Instance),
	), resource.WithFromEnv())
	if err != nil {
		o.Log.Warn("cannot use all of OTEL_RESOURCE_ATTRIBUTES", "error", err,
			"remedy", "write key=value,key=value")
	}
	e := &Exporter{
		o: o, waiting: make(chan followed, maxWaiting), closing: make(chan struct{}), closed: make(chan struct{}),
	}
	e.provider = sdk.NewTracerProvider(sdk.WithSampler(sdk.AlwaysSample()), sdk.WithIDGenerator(ids{}),
		sdk.WithResource(from), sdk.WithBatcher(&counted{SpanExporter: to, o: o}, sdk.WithBlocking(),
			sdk.WithBatchTimeout(maxDelay), sdk.WithExportTimeout(maxExport)))
	e.tracer = e.provider.Tracer("github.com/keyway-proxy/keyway", trace.WithInstrumentationVersion(o.Version))
	go e.run()
	return e, nil
}

// Take takes the journeys of a pool that are to become traces. It never blocks.
func (e *Exporter) Take(pool string, b *journey.Batch) {
	e.o.Counts.Dropped.Add(uint64(b.LostTraces))
	for i := range b.Journeys {
		if !b.Journeys[i].For.Has(journey.ForTrace) {
			continue
		}
		select {
		case e.waiting <- followed{pool, b.Journeys[i]}:
		default:
			e.o.Counts.Dropped.Add(1)
		}
	}
}

func (e *Exporter) run() {
	defer close(e.closed)
	for {
		select {
		case f := <-e.waiting:
			e.record(&f)
		case <-e.closing:
			for {
				select {
				case f := <-e.waiting:
					e.record(&f)
				default:
					return
				}
			}
		}
	}
}

// Close sends what waits, for as long as ctx allows. Take must not be called any more.
func (e *Exporter) Close(ctx context.Context) {
	close(e.closing)
	select {
	case <-e.closed:
	case <-ctx.Done():
	}
	_ = e.provider.Shutdown(ctx) // what was not sent is counted or lost with the process
}

// counted counts what the exporter in it sends, and logs the first of several failures.
type counted struct {
	sdk.SpanExporter
	o         Options
	isFailing bool
}

// ExportSpans implements sdk.SpanExporter.
func (c *counted) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	traces := uint64(0)
	for _, s := range spans {
		if !s.Parent().IsValid() {
			traces++
		}
	}
	err := c.SpanExporter.ExportSpans(ctx, spans)
	if err != nil {
		c.o.Counts.Failed.Add(traces)
		if !c.isFailing {
			c.o.Log.Warn("cannot send traces; those until it works again are lost", "endpoint", c.o.URL, "error", err,
				"remedy", "let the collector accept OTLP over HTTP at this URL, or correct traces.endpoint")
		}
	} else {
		c.o.Counts.Sent.Add(traces)
		if c.isFailing {
			c.o.Log.Info("traces are sent again", "endpoint", c.o.URL)
		}
	}
	c.isFailing = err != nil
	return nil // it is logged: the library would write to standard error
}
