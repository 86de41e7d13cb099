package page

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
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
	end func()

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
	b.end = func() {
		stop()
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.messages) > 0 {
			t.Errorf("the console has: %s", strings.Join(b.messages, "\n"))
			b.messages = nil
		}
	}
	return b
}

// expect says that the console may have errors about an address.
func (b *tab) expect(path string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = path
}

// visit loads a page. At the end of the test the tab is closed before the page's server, which the page would miss.
func (b *tab) visit(url string) {
	b.Helper()
	b.Cleanup(b.end)
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
func serve(t *testing.T, source page.Source) string { return new(gate).serve(t, source) }

// gate can end the events of a page, and refuse later ones.
type gate struct {
	mu       sync.Mutex
	isClosed bool
	watched  []context.CancelFunc
}

// serve serves the page of a source, and returns its address.
func (g *gate) serve(t *testing.T, source page.Source) string {
	t.Helper()
	p := page.New(source)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { p.ServePage(w, r, nil) })
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, r *http.Request) {
		ctx, end := context.WithCancel(r.Context())
		defer end()
		if !g.enter(end) {
			panic(http.ErrAbortHandler)
		}
		p.ServeLive(w, r.WithContext(ctx))
	})
	mux.HandleFunc("GET "+page.ClientsPath, p.ServeClients)
	for _, path := range page.Assets() {
		mux.HandleFunc("GET "+path, page.ServeAsset)
	}
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		g.close()
		srv.Close()
	})
	return srv.URL
}

// enter reports whether the gate is open. end is called when it closes.
func (g *gate) enter(end context.CancelFunc) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watched = append(g.watched, end)
	return !g.isClosed
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.isClosed = true
	for _, end := range g.watched {
		end()
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.isClosed = false
}
