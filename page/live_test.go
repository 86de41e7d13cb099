package page_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/page"
	sample "github.com/keyway-proxy/keyway/test/page"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watcher is a browser that watches a page. It can stop reading.
type watcher struct {
	head http.Header
	code int

	mu       sync.Mutex
	events   []map[string]string
	at       []time.Time
	blocked  bool
	deadline time.Time
}

func (w *watcher) Header() http.Header  { return w.head }
func (w *watcher) WriteHeader(code int) { w.code = code }
func (w *watcher) Flush()               {}

func (w *watcher) SetReadDeadline(time.Time) error { return nil }

func (w *watcher) SetWriteDeadline(at time.Time) error {
	w.deadline = at
	return nil
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.blocked {
		time.Sleep(time.Until(w.deadline))
		return 0, context.DeadlineExceeded
	}
	if _, text, ok := strings.Cut(string(p), "\ndata: "); ok {
		var sections map[string]string
		if err := json.Unmarshal([]byte(text), &sections); err != nil || !strings.HasSuffix(text, "\n\n") {
			return 0, err
		}
		w.events, w.at = append(w.events, sections), append(w.at, time.Now())
	}
	return len(p), nil
}

// last returns the last event, and how many there are.
func (w *watcher) last() (map[string]string, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.events) == 0 {
		return nil, 0
	}
	return w.events[len(w.events)-1], len(w.events)
}

// watch lets a browser watch a page until end is called. left is closed when it is not served any more.
func watch(p *page.Page) (w *watcher, end func(), left chan struct{}) {
	ctx, stop := context.WithCancel(context.Background())
	w, left = &watcher{head: http.Header{}, code: 200}, make(chan struct{})
	go func() {
		defer close(left)
		p.ServeLive(w, httptest.NewRequest("GET", "/live", nil).WithContext(ctx))
	}()
	return w, stop, left
}

// TestLiveSendsChanges: the first event has the whole page, later ones only what has changed, and there is at most one
// in a second. Two browsers cost one look.
func TestLiveSendsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, looks := sample.NewSample(3, sample.Slots(3)), 0
		source := s.Source()
		state := source.State
		source.State = func() overview.State {
			looks++
			return state()
		}
		p := page.New(source)
		a, endA, _ := watch(p)
		synctest.Wait()
		first, count := a.last()
		for _, id := range []string{"facts", "problems", "tiles", "nodes-rows", "picture", "clients-rows", "events",
			"progress"} {
			if _, ok := first[id]; !ok || count != 1 {
				t.Errorf("the first of %d events lacks %s", count, id)
			}
		}
		time.Sleep(1500 * time.Millisecond)
		if sections, count := a.last(); count != 2 || len(sections) != 0 {
			t.Errorf("event %d has %d sections, though nothing has changed", count, len(sections))
		}
		s.Change(func(st *overview.State) { st.Nodes[1].State, st.Nodes[1].Reason = "down", "<refused>" })
		b, endB, _ := watch(p)
		time.Sleep(time.Second)
		sections, count := a.last()
		if rows := sections["nodes-rows"]; count != 3 || len(sections) != 1 || !strings.Contains(rows,
			"&lt;refused&gt;") {
			t.Errorf("event %d: %v", count, sections)
		}
		if _, count := b.last(); count != 2 || len(b.events[0]) != len(first) || looks != 3 {
			t.Errorf("the other has %d events, after %d looks", count, looks)
		}
		for i := range a.at[1:] {
			if d := a.at[i+1].Sub(a.at[i]); d < time.Second {
				t.Errorf("two events within %s", d)
			}
		}
		endA()
		endB()
		synctest.Wait()
		before := looks
		if time.Sleep(5 * time.Second); looks != before {
			t.Error("it looks on, though nobody watches")
		}
	})
}

// TestSlowBrowserIsDropped: a browser that does not read is dropped. The others do not notice.
func TestSlowBrowserIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := page.New(sample.NewSample(3, sample.Slots(3)).Source())
		slow, endSlow, left := watch(p)
		quick, endQuick, _ := watch(p)
		synctest.Wait()
		slow.mu.Lock()
		slow.blocked = true
		slow.mu.Unlock()
		time.Sleep(10*time.Second + time.Millisecond)
		select {
		case <-left:
		default:
			t.Error("the slow one is still served")
		}
		if _, count := quick.last(); count != 11 {
			t.Errorf("the quick one has %d events after ten seconds", count)
		}
		endSlow()
		endQuick()
	})
}

// TestListenersAreBounded: one browser too many is refused, until another one leaves.
func TestListenersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := page.New(sample.NewSample(1, sample.Slots(1)).Source())
		var ends []func()
		for range 50 {
			_, end, _ := watch(p)
			ends = append(ends, end)
		}
		synctest.Wait()
		w, _, left := watch(p)
		if <-left; w.code != http.StatusServiceUnavailable {
			t.Errorf("browser 51 gets %d", w.code)
		}
		ends[0]()
		synctest.Wait()
		w, end, _ := watch(p)
		synctest.Wait()
		if _, count := w.last(); count != 1 {
			t.Errorf("after one has left, another gets %d, and %d events", w.code, count)
		}
		for _, end := range append(ends, end) {
			end()
		}
	})
}

// TestOtherSitesCannotListen: a page of another site cannot take the places of operators.
func TestOtherSitesCannotListen(t *testing.T) {
	p := page.New(sample.NewSample(1, sample.Slots(1)).Source())
	for header, value := range map[string]string{"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"} {
		ctx, end := context.WithCancel(context.Background())
		end() // so that it returns even if it is served
		r := httptest.NewRequest("GET", "http://127.0.0.1:9380/live", nil)
		r.Header.Set(header, value)
		answer := httptest.NewRecorder()
		if p.ServeLive(answer, r.WithContext(ctx)); answer.Code != http.StatusForbidden {
			t.Errorf("%s: %s: %d", header, value, answer.Code)
		}
	}
}
