package page

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestPageOfARunningKeyway: the page of a keyway that serves shows its figures, names a node that dies within two
// seconds, and that it is back. It does not keep the keyway from stopping.
func TestPageOfARunningKeyway(t *testing.T) {
	nodes := redistest.Three(t)
	admin := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	k := redistest.ServeProcess(t, "admin: "+admin+"\n"+redistest.NodesYAML(nodes)+
		"layout: ring\nslowlog: {slower_than: 1us}\n")
	b := open(t, 1280, 900, "light")
	c := redistest.Dial(t, k.Addr)
	c.MustDo("CLIENT", "SETNAME", "tester")
	for range 1000 {
		c.MustDo("SET", "user:1", "x")
	}
	b.visit("http://" + admin + "/?key=user:1")
	b.await(isLive)
	if text := eval[string](b, `document.querySelector("#where").innerText`); !strings.HasPrefix(text,
		"user:1 lives on ") {
		t.Errorf("the box says %q", text)
	}
	b.await(`document.querySelectorAll("#nodes-rows .badge.good").length === 3`)
	b.await(`document.querySelector("#commands-rows").innerText.includes("set")`)
	b.await(`document.querySelector("#clients-rows").innerText.includes("tester")`)
	b.await(`document.querySelector("#hot-rows").innerText.includes("user:1")`)
	b.await(`document.querySelector("#slow-rows").innerText.includes("SET user:1")`)
	nodes[1].Kill()
	took := b.await(`document.querySelector("#nodes-rows tr.bad") !== null && document.title.startsWith("(1)")`)
	t.Logf("the page names the dead node after %s", took.Round(10*time.Millisecond))
	if text := eval[string](b, `document.querySelector("#nodes-rows tr.bad").innerText`); !strings.Contains(text,
		nodes[1].Addr) {
		t.Errorf("the bad node is %q", text)
	}
	nodes[1].Run()
	nodes[1].Answers()
	b.await(`document.querySelectorAll("#nodes-rows .badge.good").length === 3`)
	b.expect("/live")
	began := time.Now()
	k.End()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("with a browser that watches, keyway takes %s to stop", took)
	}
	if log := k.Stderr.String(); strings.Contains(log, "not served any more") {
		t.Errorf("keyway has waited in vain for the browser to leave: %s", log)
	}
	b.await(`document.querySelector("#live.off") !== null`)
}

// TestPageOfAFrozenKeyway: the page says since when a keyway has not answered that hangs without ending a connection.
// It is live again when the keyway is.
func TestPageOfAFrozenKeyway(t *testing.T) {
	admin := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	k := redistest.ServeProcess(t, "admin: "+admin+"\n"+redistest.Ring(redistest.Start(t).Addr))
	b := open(t, 1280, 900, "light")
	b.visit("http://" + admin)
	b.await(isLive)
	b.expect("/live")
	k.Freeze()
	b.await(`/^No answer since \d\d:\d\d:\d\d \S+; trying/.test(document.querySelector("#live.off")?.textContent)`)
	k.Thaw()
	b.await(isLive)
}

// TestPageSortsAllClients: the page shows 100 clients, and those that come first among all by the column that somebody
// chooses. It says how many it leaves out.
func TestPageSortsAllClients(t *testing.T) {
	admin := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	k := redistest.ServeProcess(t, "admin: "+admin+"\n"+redistest.Ring(redistest.Start(t).Addr))
	for range 120 {
		c := redistest.Dial(t, k.Addr)
		c.MustDo("PING")
		c.MustDo("PING")
		c.MustDo("PING")
	}
	redistest.Dial(t, k.Addr).MustDo("CLIENT", "SETNAME", "latest")
	b := open(t, 1280, 900, "light")
	b.visit("http://" + admin)
	b.await(isLive)
	const shown = `document.querySelector("#clients-rows").innerText.includes("latest")`
	b.await(`document.querySelector("#clients-more").textContent ===
		"and 21 more: keyway clients --admin ADDRESS --count 1000"`)
	if eval[bool](b, shown) {
		t.Error("a client with few commands is among the first by commands")
	}
	const age = `document.querySelector('#clients th[data-by="age"] button').click(), true`
	eval[bool](b, age)
	eval[bool](b, age) // the youngest first
	b.await(shown)
	b.await(`document.querySelector('[data-order^="clients/kill"][aria-label$=", latest"]') !== null`)
	if n := eval[int](b, `document.querySelector("#clients-rows").rows.length`); n != 100 {
		t.Errorf("the page shows %d clients", n)
	}
	eval[bool](b, `window.before = document.querySelector("#clients-rows").firstChild, true`)
	b.await(`!window.before.isConnected`)
	if !eval[bool](b, shown) {
		t.Error("an event undoes the order")
	}
}

// TestPagesOfOthersCannotRead: a browser under another name that points to the keyway's loopback address gets nothing.
func TestPagesOfOthersCannotRead(t *testing.T) {
	nodes := redistest.Three(t)
	admin := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	redistest.ServeProcess(t, "admin: "+admin+"\n"+redistest.NodesYAML(nodes)+"layout: ring\n")
	for _, path := range []string{"/", "/live", "/overview", "/locks"} {
		r, err := http.NewRequest("GET", "http://"+admin+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "rebound.example"
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("%s: %s", path, answer.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
