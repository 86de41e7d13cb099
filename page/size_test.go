package page_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/page"
	sample "github.com/keyway-proxy/keyway/test/page"
)

// largePool is what a page shows of a pool with so many nodes, clients and users.
func largePool(nodes, connected, users int) page.Source {
	s := sample.NewSample(nodes, sample.Ring(nodes))
	s.Change(func(st *overview.State) {
		st.Now.Clients, st.Users = connected, nil
		for i := range users {
			st.Users = append(st.Users, overview.User{Name: fmt.Sprintf("user-%d", i), Clients: connected / users,
				Commands: 123.4, P50: 0.0003, P99: 0.0018, Total: 8_120_334_120, Failed: 92})
		}
	})
	of := s.Tame()
	of.Clients = func(_ context.Context, q clients.Query) (all []clients.Row, err error) {
		for i := range min(q.Count, connected) {
			all = append(all, clients.Row{ID: uint64(100 + i), Addr: fmt.Sprintf("10.0.%d.%d:40123", i/250, i%250),
				User: fmt.Sprintf("user-%d", i%users), Name: fmt.Sprintf("worker-%d", i), Lib: "go-redis 9.23.0",
				LastCommand: "get", Flags: "N", Commands: uint64(1_000_000 / (i + 1)), Idle: float64(i)})
		}
		return all, nil
	}
	return of
}

// stream is what a browser gets that takes gzip.
type stream struct {
	watcher
	bytes.Buffer
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Buffer.Write(p)
}

// firstEvents returns the first event with all sections as two browsers get it, and how long it is compressed. The
// second one comes later, so that its event is not that of the first.
func firstEvents(t *testing.T, of page.Source) (sections map[string]string, packed int) {
	synctest.Test(t, func(t *testing.T) {
		p := page.New(of)
		w, end, left := watch(p)
		synctest.Wait()
		sections, _ = w.last()
		s := &stream{watcher: watcher{head: http.Header{}, code: 200}}
		ctx, stop := context.WithCancel(context.Background())
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			r := httptest.NewRequest("GET", "/live", nil).WithContext(ctx)
			r.Header.Set("Accept-Encoding", "br, gzip;q=0.5")
			p.ServeLive(s, r)
		}()
		synctest.Wait()
		stop()
		end()
		<-gone
		<-left
		packed = s.Len()
		unpacked, err := gzip.NewReader(&s.Buffer)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(unpacked)
		if !errors.Is(err, io.ErrUnexpectedEOF) { // the stream ends with the connection
			t.Error(err)
		}
		_, data, _ := strings.Cut(string(text), "\ndata: ")
		var later map[string]string
		if err := json.Unmarshal([]byte(data), &later); err != nil {
			t.Fatal(err)
		}
		for id, html := range sections {
			if later[id] != html {
				t.Errorf("the section %s is another one when it is compressed", id)
			}
		}
	})
	return sections, packed
}

// TestFirstEventIsBounded: the first event of a large pool is 640 kB at most, a fifth of it compressed, and more
// clients and users than a page shows do not make it longer.
func TestFirstEventIsBounded(t *testing.T) {
	length := func(sections map[string]string) (n int) {
		for _, html := range sections {
			n += len(html)
		}
		return n
	}
	large, packed := firstEvents(t, largePool(300, 2000, 100))
	if n := length(large); n > 640<<10 || packed > n/5 {
		t.Errorf("with 300 nodes it has %d bytes, and %d compressed", n, packed)
	}
	t.Logf("with 300 nodes, 2,000 clients and 100 users: %d bytes, compressed %d", length(large), packed)
	many, _ := firstEvents(t, largePool(300, 50_000, 1000))
	if n, before := length(many), length(large); n > before+before/50 {
		t.Errorf("with 50,000 clients and 1,000 users it has %d bytes, and %d with 2,000 and 100", n, before)
	}
	few, _ := firstEvents(t, largePool(30, 2000, 100))
	rows, fewer := len(large["nodes-rows"])/300, len(few["nodes-rows"])/30
	if rows > fewer+fewer/10 {
		t.Errorf("of 300 nodes each takes %d bytes, and of 30 nodes %d", rows, fewer)
	}
}
