package page

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/clients"
)

const (
	everyEvent   = time.Second     // the least time between two events
	listsEvery   = 3               // events: how often the threads are asked for clients and the like
	maxListeners = 50              // browsers that watch a page
	maxQueued    = 3               // events that may wait for a browser
	writeWithin  = 5 * time.Second // after that a browser that does not read is dropped
)

// hub sends the parts of a page that have changed to all browsers that watch it. While there are some, one goroutine
// looks once a second, however many they are.
type hub struct {
	page *Page

	mu        sync.Mutex
	listeners map[chan event]bool
	packer    packer
	shown     map[string]string // sections as the listeners have them
	asOf      string            // the time of the last event, for people
	stop      context.CancelFunc
}

// join adds a listener, whose first event has all sections. It returns nil if there are too many. leave must be
// called at the end. The channel is closed if its reader is too slow.
func (h *hub) join() (events chan event, leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.listeners) >= maxListeners {
		return nil, func() {}
	}
	if len(h.listeners) == 0 {
		var ctx context.Context
		ctx, h.stop = context.WithCancel(context.Background())
		h.listeners, h.shown = map[chan event]bool{}, map[string]string{}
		go h.run(ctx)
	}
	events = make(chan event, maxQueued)
	if len(h.shown) > 0 {
		events <- h.packer.event(eventOf(h.asOf, h.shown))
	}
	h.listeners[events] = true
	return events, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.remove(events)
	}
}

// remove removes a listener. The last one ends the goroutine.
func (h *hub) remove(events chan event) {
	if !h.listeners[events] {
		return
	}
	delete(h.listeners, events)
	close(events)
	if len(h.listeners) == 0 {
		h.stop()
	}
}

// run looks and sends until ctx ends.
func (h *hub) run(ctx context.Context) {
	tick := time.NewTicker(everyEvent)
	defer tick.Stop()
	for n := 0; ; n++ {
		v := h.page.look(nil)
		if n%listsEvery == 0 {
			v.Lists = h.page.source.lists(ctx, v.State)
		}
		h.send(ctx, v.AsOf(), v.html())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// html returns the sections of a view by their IDs.
func (v *view) html() map[string]string {
	all := map[string]string{}
	for _, s := range v.sections() {
		all[s.ID] = s.html()
	}
	return all
}

// send sends the sections that have changed. It waits for nobody.
func (h *hub) send(ctx context.Context, asOf string, now map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil { // a later goroutine has other listeners
		return
	}
	h.asOf = asOf
	changed := map[string]string{}
	for id, html := range now {
		if before, ok := h.shown[id]; !ok || before != html {
			changed[id], h.shown[id] = html, html
		}
	}
	event := h.packer.event(eventOf(asOf, changed))
	for events := range h.listeners {
		select {
		case events <- event:
		default:
			h.remove(events)
		}
	}
}

// eventOf returns a server-sent event. Its data are one line of JSON, because that has no line break. Its ID is the
// time of the figures, which the page shows when no more events come.
func eventOf(asOf string, sections map[string]string) []byte {
	var event bytes.Buffer
	event.WriteString("id: " + asOf + "\ndata: ")
	text := json.NewEncoder(&event)
	text.SetEscapeHTML(false) // it only makes the event longer: the script parses it as JSON
	if err := text.Encode(sections); err != nil {
		panic(err) // strings can always be encoded
	}
	event.WriteByte('\n')
	return event.Bytes()
}

// ServeLive serves the events of a page until the browser leaves or the request's context ends.
func (p *Page) ServeLive(w http.ResponseWriter, r *http.Request) {
	protect(w)
	if !ofSameSite(r) {
		http.Error(w, "only keyway's own page may listen", http.StatusForbidden)
		return
	}
	events, leave := p.live.join()
	defer leave()
	if events == nil {
		w.Header().Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("%d browsers watch already", maxListeners), http.StatusServiceUnavailable)
		return
	}
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // net/http would end the request at it
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy must not wait for more
	w.Header().Set("Vary", "Accept-Encoding")
	next, isPacked := hello, acceptsGzip(r)
	if isPacked {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(gzipHead) // what comes next fails, too
	}
	for ok := true; ok; {
		_ = out.SetWriteDeadline(time.Now().Add(writeWithin))
		text := next.plain
		if isPacked {
			text = next.packed
		}
		if _, err := w.Write(text); err != nil || out.Flush() != nil {
			return
		}
		select {
		case next, ok = <-events:
		case <-r.Context().Done():
			return
		}
	}
}

// ClientsPath is where a page gets the clients that come first by another column.
const ClientsPath = "/live/clients"

// ServeClients serves the sections of the list of clients, like an event. The parameters say how it is sorted: by,
// one of [clients.Columns], and reversed=true.
func (p *Page) ServeClients(w http.ResponseWriter, r *http.Request) {
	protect(w)
	of := r.URL.Query()
	q := clients.Query{Sort: of.Get("by"), IsReversed: of.Get("reversed") == "true"}
	if !slices.Contains(clients.Columns(), q.Sort) {
		http.Error(w, "by must be one of "+strings.Join(clients.Columns(), ", "), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), lookWithin)
	defer cancel()
	state := p.source.State()
	sheet := p.source.clientsSheet(ctx, &state, q)
	if sheet == nil {
		http.NotFound(w, r)
		return
	}
	all := map[string]string{}
	for _, s := range sheet.sections() {
		all[s.ID] = s.html()
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(all) // the only error is that the browser has left
}

// ofSameSite reports whether a request comes from a page of this server, or from no page. What other sites ask for
// they cannot read, but it would take the places of operators.
func ofSameSite(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host == r.Host
}
