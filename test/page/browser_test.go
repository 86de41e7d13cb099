package page

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"

	"github.com/keyway-proxy/keyway/page"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// browser is the one browser of all tests. Each test has a tab.
var browser struct {
	once sync.Once
	ctx  context.Context
	end  func()
	err  error
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(closing{m}, goleak.Cleanup(func(code int) {
		redistest.RemoveBuilt()
		os.Exit(code)
	}))
}

// closing ends the browser after the tests.
type closing struct{ *testing.M }

func (c closing) Run() int {
	code := c.M.Run()
	if browser.end != nil {
		browser.end()
	}
	return code
}

// start starts the browser.
func start() {
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" {
		browser.err = fmt.Errorf("there is no Chromium; run make tools, or apt-get install chromium")
		return
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // root has none
	}
	allocator, endAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, end := chromedp.NewContext(allocator)
	browser.ctx, browser.err = ctx, chromedp.Do(ctx)
	browser.end = func() { end(); endAllocator() }
}

// tab is a tab in which a test looks at a page.
type tab struct {
	*testing.T
	ctx context.Context

	mu       sync.Mutex
	messages []string // errors that the console has shown
	expected string   // the end of the addresses that they may be about
}

// open opens a tab of this size. At the end of the test its console must have shown no error.
func open(t *testing.T, width, height int64, scheme string) *tab {
	t.Helper()
	browser.once.Do(start)
	if browser.err != nil {
		t.Fatal(browser.err)
	}
	ctx, cancel := chromedp.NewContext(browser.ctx)
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	b := &tab{T: t, ctx: ctx}
	err := chromedp.Listen(ctx, func(ev any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			b.messages = append(b.messages, fmt.Sprint(ev.ExceptionDetails.Text, " ", ev.ExceptionDetails.URL))
		case *log.EventEntryAdded:
			if b.expected == "" || !strings.HasSuffix(ev.Entry.URL, b.expected) {
				b.messages = append(b.messages, fmt.Sprint(ev.Entry.Text, " ", ev.Entry.URL))
			}
		}
	})
	if err == nil {
		err = chromedp.Do(ctx, chromedp.EmulateViewport(width, height))
	}
	if err == nil {
		_, err = chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.messages) > 0 {
			t.Errorf("the console has: %s", strings.Join(b.messages, "\n"))
		}
	})
	return b
}

// expect says that the console may have errors about an address.
func (b *tab) expect(path string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = path
}

// visit loads a page.
func (b *tab) visit(url string) {
	b.Helper()
	if err := chromedp.Do(b.ctx, chromedp.Navigate(url)); err != nil {
		b.Fatalf("%s: %v", url, err)
	}
}

// eval returns the value of an expression in the page.
func eval[T any](b *tab, expression string) T {
	b.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.Fatalf("%s: %v", expression, err)
	}
	return value
}

// await waits until a condition of the page is true, and returns how long that took.
func (b *tab) await(condition string) time.Duration {
	b.Helper()
	began := time.Now()
	for !eval[bool](b, condition) {
		if time.Since(began) > 30*time.Second {
			b.Fatalf("not true after %s: %s\n%s", time.Since(began), condition, eval[string](b,
				"document.body.innerText"))
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(began)
}

// serve serves the page of a source, and returns its address.
func serve(t *testing.T, source page.Source) string {
	t.Helper()
	p := page.New(source)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { p.ServePage(w, r, nil) })
	ctx, stop := context.WithCancel(context.Background())
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, r *http.Request) {
		until, end := context.WithCancel(r.Context())
		defer end()
		defer context.AfterFunc(ctx, end)()
		p.ServeLive(w, r.WithContext(until))
	})
	for _, path := range page.Assets() {
		mux.HandleFunc("GET "+path, page.ServeAsset)
	}
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		stop()
		srv.Close()
	})
	return srv.URL
}

// gate is a server of a page that can refuse browsers.
type gate struct {
	closed atomic.Bool
	srv    *httptest.Server
}

// serve serves the page of a source through the gate, and returns its address.
func (g *gate) serve(t *testing.T, source page.Source) string {
	behind, err := url.Parse(serve(t, source))
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(behind) },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) }}
	g.srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.closed.Load() {
			panic(http.ErrAbortHandler)
		}
		defer func() { _ = recover() }() // the browser or the gate has closed the connection
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		g.srv.CloseClientConnections()
		g.srv.Close()
	})
	return g.srv.URL
}

// close ends all connections, and refuses later ones.
func (g *gate) close() {
	g.closed.Store(true)
	g.srv.CloseClientConnections()
}

func (g *gate) open() { g.closed.Store(false) }
