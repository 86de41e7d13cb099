package traces

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/keyway-proxy/keyway/journey"
	"github.com/keyway-proxy/keyway/resp"
)

// The names of the spans below that of the command.
const (
	spanQueue    = "queue"    // until the first node was sent the command
	spanNode     = "node"     // one call at a node
	spanRedirect = "redirect" // from MOVED or ASK until the next node was sent the command
	spanRetry    = "retry"    // from another error, or a lost connection, until the command was sent again
)

// record makes the spans of a command. They follow OpenTelemetry's conventions for Redis. Attributes of keyway's own
// begin with "keyway.".
func (e *Exporter) record(f *followed) {
	j := &f.Journey
	name := j.Name()
	ctx := context.WithValue(context.Background(), traceKey{}, trace.TraceID(j.Trace))
	ctx, root := e.tracer.Start(ctx, name, trace.WithTimestamp(j.Wall(j.Start)),
		trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(e.rootAttributes(f, name)...))
	switch {
	case j.IsCut:
		fail(root, "client_left")
	case j.Error != "":
		root.SetAttributes(semconv.DBResponseStatusCode(j.Error))
		fail(root, j.Error)
	}
	if queued, ok := j.Queued(); ok {
		e.child(ctx, spanQueue, trace.SpanKindInternal, j.Wall(j.Start), j.Wall(j.Start).Add(queued)).done()
	}
	attempts := j.Attempts()
	for i := range attempts {
		a := &attempts[i]
		start := a.Written
		if start == 0 { // it was not sent
			start = a.Ended
		}
		s := e.child(ctx, spanNode, trace.SpanKindClient, j.Wall(start), j.Wall(a.Ended))
		s.SetAttributes(nodeAttributes(a, name, j.Database)...)
		if a.Result != "" {
			fail(s, a.Result)
		}
		s.done()
		if i+1 < len(attempts) {
			e.again(ctx, j, a, &attempts[i+1])
		}
	}
	root.End(trace.WithTimestamp(j.At))
}

// again makes the span between two attempts.
func (e *Exporter) again(ctx context.Context, j *journey.Journey, from, to *journey.Attempt) {
	if from.Result == "" {
		return // two calls of a command that was split
	}
	name := spanRetry
	if from.Result == "MOVED" || from.Result == "ASK" {
		name = spanRedirect
	}
	end := to.Written
	if end == 0 {
		end = to.Ended
	}
	s := e.child(ctx, name, trace.SpanKindInternal, j.Wall(from.Ended), j.Wall(max(end, from.Ended)))
	s.SetAttributes(attribute.String("keyway.reason", from.Result), attribute.String("keyway.from", from.Node),
		attribute.String("keyway.to", to.Node))
	s.done()
}

// child is a span whose end is known when it begins.
type child struct {
	trace.Span
	end time.Time
}

func (e *Exporter) child(ctx context.Context, name string, kind trace.SpanKind, start, end time.Time) child {
	_, s := e.tracer.Start(ctx, name, trace.WithTimestamp(start), trace.WithSpanKind(kind))
	return child{s, end}
}

func (c child) done() { c.End(trace.WithTimestamp(c.end)) }

// fail marks a span as one of a failure.
func fail(s trace.Span, kind string) {
	s.SetStatus(codes.Error, "")
	s.SetAttributes(semconv.ErrorTypeKey.String(kind))
}

// system is the value of db.system.name.
var system = attribute.String("db.system.name", "redis")

func (e *Exporter) rootAttributes(f *followed, name string) []attribute.KeyValue {
	j := &f.Journey
	all := []attribute.KeyValue{
		system, semconv.DBOperationName(name), semconv.DBNamespace(strconv.Itoa(j.Database)),
		semconv.UserName(j.User), attribute.Int("keyway.request.size", j.BytesIn),
		attribute.Int("keyway.response.size", j.BytesOut), attribute.Int("keyway.keys", j.Keys),
	}
	host, port := split(j.Client)
	all = append(all, semconv.ClientAddress(host))
	if port != 0 {
		all = append(all, semconv.ClientPort(port))
	}
	add := func(key, value string) {
		if value != "" {
			all = append(all, attribute.String(key, value))
		}
	}
	add("keyway.pool", f.pool)
	add("keyway.client.name", resp.Text([]byte(j.ClientName)))
	if j.Keys > 0 && e.o.HasKeys {
		add("keyway.key", resp.Text(j.Key.Text()))
	}
	if j.Keys > 0 && e.o.HasHash {
		hash := j.Key.Hash()
		add("keyway.key.hash", hex.EncodeToString(hash[:]))
	}
	if j.IsSlow {
		all = append(all, attribute.Bool("keyway.slow", true))
	}
	if n := j.Unkept(); n > 0 {
		all = append(all, attribute.Int("keyway.attempts.left_out", n))
	}
	return all
}

func nodeAttributes(a *journey.Attempt, name string, database int) []attribute.KeyValue {
	all := []attribute.KeyValue{
		system, semconv.DBOperationName(name), semconv.DBNamespace(strconv.Itoa(database)),
		attribute.String("keyway.node", a.Node),
	}
	host, port := split(a.Addr)
	all = append(all, semconv.ServerAddress(host))
	if port != 0 {
		all = append(all, semconv.ServerPort(port))
	}
	return all
}

// split splits HOST:PORT. What is no such address, such as a socket file, is the host.
func split(addr string) (host string, port int) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return addr, 0
	}
	port, _ = strconv.Atoi(text)
	return host, port
}

// traceKey is the key of a context's trace.
type traceKey struct{}

// ids makes the identities of spans. That of the trace is the journey's, so that the access log can name it.
type ids struct{}

// NewIDs implements sdk.IDGenerator.
func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, _ := ctx.Value(traceKey{}).(trace.TraceID)
	return id, ids{}.NewSpanID(ctx, id)
}

// NewSpanID implements sdk.IDGenerator.
func (ids) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	binary.BigEndian.PutUint64(id[:], rand.Uint64()|1) // zero is no identity
	return id
}
