package page

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/router"
)

const isLive = `document.querySelector(".live.on") !== null`

// names returns the first column of the nodes, as it is shown.
const names = `[...document.querySelectorAll("#nodes-rows th")].map(th => th.firstChild.textContent).join(" ")`

// TestPageUpdatesAndSorts: figures and states follow the server's within a second or so. A table stays sorted, its
// heads
// are buttons for the keyboard too, and what somebody selects does not vanish.
func TestPageUpdatesAndSorts(t *testing.T) {
	s := NewSample(5, Slots(5))
	b := open(t, 1280, 900, "light")
	b.visit(serve(t, s.Source()))
	b.await(isLive)
	if got := eval[string](b, names); got != "node-0 node-1 node-2 node-3 node-4" {
		t.Errorf("the nodes are %s", got)
	}
	const memory = `[...document.querySelectorAll("#nodes thead th")].find(th => th.textContent === "Memory")`
	eval[bool](b, memory+`.querySelector("button").focus(), true`)
	if err := chromedp.Do(b.ctx, chromedp.KeyEvent("\r")); err != nil {
		t.Fatal(err)
	}
	if sorted := eval[string](b, memory+`.getAttribute("aria-sort")`); sorted != "descending" {
		t.Errorf("the column is sorted %s", sorted)
	}
	if got := eval[string](b, names); got != "node-4 node-3 node-2 node-1 node-0" {
		t.Errorf("by memory the nodes are %s", got)
	}
	s.Change(func(st *overview.State) {
		trouble(st)
		st.Now.Clients, st.Nodes[0].Memory = 77, 1<<40
	})
	b.await(`document.title === "(2) keyway"`)
	if got := eval[string](b, names); got != "node-0 node-4 node-3 node-2 node-1" {
		t.Errorf("after the change the nodes are %s", got)
	}
	state := eval[string](b,
		`[...document.querySelectorAll("#nodes-rows tr")].find(tr => tr.className === "bad").innerText`)
	if !strings.Contains(state, "node-1") || !strings.Contains(state, "down") || !strings.Contains(state,
		"refused, for 8 s") {
		t.Errorf("the dead node is shown as %q", state)
	}
	if focused := eval[bool](b, memory+`.querySelector("button") === document.activeElement`); !focused {
		t.Error("the keyboard's place is lost")
	}
	b.await(`document.querySelector("#tiles").innerText.includes("77")`)
	eval[bool](b, `getSelection().selectAllChildren(document.querySelector("#tiles .value")), true`)
	s.Change(func(st *overview.State) { st.Now.Clients, st.Version = 78, "9.9.9" })
	b.await(`document.querySelector("#facts").innerText.includes("9.9.9")`)
	if !eval[bool](b, `!getSelection().isCollapsed && document.querySelector("#tiles").innerText.includes("77")`) {
		t.Error("the selection is lost")
	}
	eval[bool](b, `getSelection().removeAllRanges(), true`)
	b.await(`document.querySelector("#tiles").innerText.includes("78")`)
}

// TestBoxFindsKeys: the box answers without loading the page again, marks the key in the picture, and keeps doing so
// when the layout changes.
func TestBoxFindsKeys(t *testing.T) {
	s := NewSample(4, Slots(3))
	b := open(t, 1280, 900, "dark")
	b.visit(serve(t, s.Source()))
	b.await(isLive)
	eval[bool](b, `window.same = true`)
	b.ask("user:{42}:cart")
	b.await(`document.querySelector("#where").innerText.includes("lives on node-1")`)
	b.await(`document.querySelector(".pin") !== null`)
	s.Replace(router.Moving(Slots(3), Slots(4)))
	b.await(`document.querySelector(".moving") !== null && document.querySelector(".pin") !== null`)
	if !eval[bool](b, `window.same && location.search === "?key=user%3A%7B42%7D%3Acart"`) {
		t.Error("the page was loaded again, or its address does not name the key")
	}
	for _, key := range Hostile {
		b.ask(strings.ToValidUTF8(strings.Map(printable, key), "?"))
	}
	b.await(`document.querySelector("#where").innerText.includes("a key that is long")`)
	title := eval[string](b, "document.title")
	if title != "keyway" || eval[bool](b, `document.querySelector("img") !== null`) {
		t.Errorf("a key was obeyed: %s", title)
	}
}

// ask puts a key into the box, and asks where it lives.
func (b *tab) ask(key string) {
	b.Helper()
	eval[bool](b, fmt.Sprintf(`document.querySelector("#key").value = %q, true`, key))
	eval[bool](b, `document.querySelector("form.ask button").click(), true`)
}

// printable leaves out what nobody can type.
func printable(r rune) rune {
	if r < ' ' || r == '\u202e' {
		return -1
	}
	return r
}

// TestPageWithoutScript: without JavaScript the page has all figures, and the box works.
func TestPageWithoutScript(t *testing.T) {
	b := open(t, 1280, 900, "light")
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	b.visit(serve(t, NewSample(3, Ring(3)).Source()))
	text := eval[string](b, "document.body.innerText")
	for _, want := range []string{"As of 14:30:00", "48.2 k", "node-2", "cart:{42}", "the configuration was reloaded"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if err := chromedp.Do(b.ctx, chromedp.SendKeys(chromedp.CSS("#key"), "user:1\r")); err != nil {
		t.Fatal(err)
	}
	b.await(`document.querySelector(".where")?.innerText.startsWith("user:1 lives on node-") ?? false`)
}

// TestPageFitsPhones: the page is no wider than a phone, whatever keys and clients are called, and shows 300 nodes.
func TestPageFitsPhones(t *testing.T) {
	s := NewSample(300, Slots(300))
	s.Change(trouble)
	url := serve(t, s.Source())
	b := open(t, 390, 800, "dark")
	b.visit(url + "?key=" + strings.Repeat("a", 3000))
	b.await(isLive)
	if wide := eval[int](b, "document.documentElement.scrollWidth"); wide != 390 {
		t.Errorf("the page is %d pixels wide, the phone 390", wide)
	}
	if rows := eval[int](b, `document.querySelectorAll("#nodes-rows tr").length`); rows != 300 {
		t.Errorf("%d nodes", rows)
	}
	began := time.Now()
	s.Change(func(st *overview.State) {
		for i := range st.Nodes {
			st.Nodes[i].InFlight = 4000 + i
		}
	})
	b.await(`document.querySelector("#nodes-rows").innerText.includes("4,299")`)
	t.Logf("all 300 rows have changed within %s", time.Since(began).Round(10*time.Millisecond))
}

// TestPageSaysThatItIsOld: when the server does not answer any more, the page says so and since when, and goes on when
// it is back.
func TestPageSaysThatItIsOld(t *testing.T) {
	g := &gate{}
	b := open(t, 1280, 900, "light")
	b.visit(g.serve(t, NewSample(2, Slots(2)).Source()))
	b.await(isLive)
	b.expect("/live")
	g.close()
	b.await(`document.querySelector("#live.off")?.textContent === "No answer since 14:30:00 UTC; trying again"`)
	g.open()
	b.await(isLive)
}
