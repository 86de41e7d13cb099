package admin

import (
	"compress/gzip"
	"context"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/page"
	sample "github.com/keyway-proxy/keyway/test/page"
)

// TestAnswersAreCompressed: a browser gets the page, its files and JSON compressed, and they are the same; who does not
// accept that gets them as they are. Events are never compressed, and /metrics by itself.
func TestAnswersAreCompressed(t *testing.T) {
	s := sample.NewSample(300, sample.Slots(300))
	source := s.Source()
	h := Handler(twoThreads{}, Options{Page: page.New(source), Views: Views{Overview: source.State,
		Events: func(int) []overview.Event { return nil }}})
	ask := func(path, accepts string) *httptest.ResponseRecorder {
		ctx, end := context.WithCancel(t.Context())
		end() // so that /live ends at once
		r := httptest.NewRequest("GET", path, nil).WithContext(ctx)
		r.Header.Set("Accept-Encoding", accepts)
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r)
		return answer
	}
	for path, isCompressed := range map[string]bool{"/": true, "/page.js": true, "/overview": true, "/events": false,
		"/live": true} {
		plain, got := ask(path, "identity"), ask(path, "gzip, deflate, br, zstd")
		if plain.Header().Get("Content-Encoding") != "" || plain.Code != 200 {
			t.Errorf("%s: %d %v", path, plain.Code, plain.Header())
		}
		if (got.Header().Get("Content-Encoding") == "gzip") != isCompressed {
			t.Errorf("%s: %v", path, got.Header())
		}
		if got.Header().Get("Content-Type") != plain.Header().Get("Content-Type") {
			t.Errorf("%s is of another kind: %v", path, got.Header())
		}
		if !isCompressed || path == "/live" { // which has no end
			continue
		}
		size := got.Body.Len()
		reader, err := gzip.NewReader(got.Body)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(reader)
		if err != nil || string(text) != plain.Body.String() || size > len(text)/2 {
			t.Errorf("%s: %d bytes of %d, not the same: %v", path, size, len(text), err)
		}
		t.Logf("%s: %d bytes instead of %d", path, size, len(text))
	}
	if metrics := ask("/metrics", "gzip"); metrics.Header().Get("Content-Encoding") != "gzip" ||
		strings.Contains(metrics.Body.String(), "keyway_") {
		t.Errorf("/metrics: %v", metrics.Header())
	}
}
