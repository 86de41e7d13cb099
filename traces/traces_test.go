package traces

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	proto "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	wire "google.golang.org/protobuf/proto"

	"github.com/keyway-proxy/keyway/journey"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// journeyOf returns a journey with a redirect, which took 60 ms.
func journeyOf() journey.Journey {
	j := journey.Journey{
		For: journey.ForTrace, Trace: [16]byte{1, 2, 3}, Command: "GET", Keys: 1, Database: 3, Client: "1.2.3.4:5",
		User:       "ann",
		ClientName: "shop", Start: int64(time.Hour), End: int64(time.Hour + 60*time.Millisecond),
		At:      time.Unix(2000, 0),
		BytesIn: 10, BytesOut: 20, IsSlow: true,
	}
	j.SetKey([]byte("key"), &journey.Settings{Text: true, Hash: true})
	at := func(ms int) int64 { return int64(time.Hour) + int64(ms)*int64(time.Millisecond) }
	j.Tried(journey.Attempt{Node: "a", Addr: "10.0.0.1:7000", Written: at(10), Ended: at(20), Result: "MOVED"})
	j.Tried(journey.Attempt{Node: "b", Addr: "10.0.0.2:7000", Written: at(25), Ended: at(60)})
	return j
}

// TestSpans: the spans of a command have its times, its nodes and what the settings allow, and those below the
// command's cover it without a gap.
func TestSpans(t *testing.T) {
	got := make(chan *collector.ExportTraceServiceRequest, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		request := new(collector.ExportTraceServiceRequest)
		if err := wire.Unmarshal(body, request); err != nil || r.URL.Path != "/v1/traces" {
			t.Error(r.URL.Path, err)
		}
		got <- request
	}))
	defer server.Close()
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	var counts Counts
	e, err := New(Options{
		URL: server.URL + "/v1/traces", Service: "keyway", Version: "1", Instance: "i", HasHash: true, Counts: &counts,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Take("p", &journey.Batch{Journeys: []journey.Journey{journeyOf(), {For: journey.ForLine}}, LostTraces: 2})
	e.Close(t.Context())
	request := <-got
	text := protojson.Format(request)
	for _, want := range []string{
		`"keyway"`, `"deployment.environment.name"`, `"GET"`, `"redis"`, `"db.namespace"`, `"1.2.3.4"`, `"ann"`,
		`"shop"`,
		`"keyway.key.hash"`, `"10.0.0.2"`, `"keyway.slow"`, `"MOVED"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if strings.Contains(text, `"keyway.key"`) {
		t.Error("the key is shown")
	}
	spans := request.ResourceSpans[0].ScopeSpans[0].Spans
	last := uint64(time.Unix(2000, 0).UnixNano()) - 60e6
	begin, names := last, []string(nil)
	var root *proto.Span
	for _, s := range spans {
		names = append(names, s.Name)
		if root = s; len(s.ParentSpanId) == 0 {
			break
		}
		if s.StartTimeUnixNano != last || !bytes.Equal(s.TraceId[:3], []byte{1, 2, 3}) {
			t.Errorf("%s begins %d ns late", s.Name, s.StartTimeUnixNano-last)
		}
		last = s.EndTimeUnixNano
	}
	if all := strings.Join(names, " "); all != "queue node redirect node GET" {
		t.Errorf("spans %s", all)
	}
	if root.StartTimeUnixNano != begin || root.EndTimeUnixNano != last || root.Kind != proto.Span_SPAN_KIND_SERVER {
		t.Errorf("%v", root)
	}
	if counts.Sent.Load() != 1 || counts.Failed.Load() != 0 || counts.Dropped.Load() != 2 {
		t.Errorf("%d, %d, %d", counts.Sent.Load(), counts.Failed.Load(), counts.Dropped.Load())
	}
}

// TestDeadCollector: traces that no collector takes are counted, and the log says so once, and when it is over. What
// hands them over never waits.
func TestDeadCollector(t *testing.T) {
	var mu sync.Mutex
	isDead, asked := true, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if asked++; isDead {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer server.Close()
	var log redistest.Log
	var counts Counts
	o := Options{URL: server.URL, Counts: &counts, Log: slog.New(slog.NewTextHandler(&log, nil))}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		e.Close(ctx)
	}()
	one := &journey.Batch{Journeys: []journey.Journey{journeyOf()}}
	taken := uint64(0)
	take := func(n int, until func() bool) {
		redistest.Eventually(t, 30*time.Second, "the exporter has tried", func() bool {
			for range n {
				e.Take("", one)
				taken++
			}
			return until()
		})
	}
	take(1, func() bool { return counts.Failed.Load() > 0 })
	take(1, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return asked > 2
	})
	take(3*maxWaiting, func() bool { return counts.Dropped.Load() > 0 })
	mu.Lock()
	isDead = false
	mu.Unlock()
	take(1, func() bool { return counts.Sent.Load() > 0 })
	redistest.Eventually(t, 30*time.Second, "each trace is counted", func() bool {
		return counts.Sent.Load()+counts.Failed.Load()+counts.Dropped.Load() == taken
	})
	if text := log.String(); strings.Count(text, "cannot send traces") != 1 || strings.Count(text, "sent again") != 1 {
		t.Errorf("the log: %s", text)
	}
}
