package page

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/test/redistest"
)

const (
	token    = "right-token-0123456789"
	answered = `!document.querySelector("#order-go").disabled && document.querySelector("#order-result").textContent`
)

// order clicks the button of an order.
func (b *tab) order(path string) {
	b.Helper()
	eval[bool](b, fmt.Sprintf(`document.querySelector('[data-order="%s"]').click(), true`, path))
	b.await(`document.querySelector("#order").open`)
}

// confirm types a token, if it is not empty, and confirms the order. It returns keyway's answer.
func (b *tab) confirm(token string) string {
	b.Helper()
	if token != "" {
		if err := chromedp.Do(b.ctx, chromedp.SendKeys(chromedp.CSS("#order-token"), token)); err != nil {
			b.Fatal(err)
		}
	}
	eval[bool](b, `document.querySelector("#order-go").click(), true`)
	b.await(answered + ` !== "keyway is at it."`)
	return eval[string](b, `document.querySelector("#order-result").textContent`)
}

// close closes the dialog.
func (b *tab) close() {
	b.Helper()
	eval[bool](b, `document.querySelector("#order-close").click(), true`)
}

// keepsSecret fails the test if the token is anywhere where others could read it.
func (b *tab) keepsSecret() {
	b.Helper()
	seen := eval[string](b, `document.documentElement.outerHTML + location.href + JSON.stringify(localStorage) +
		JSON.stringify(sessionStorage) + document.cookie + JSON.stringify(history.state) +
		[...document.querySelectorAll("input")].map(i => i.value).join(" ") +
		performance.getEntriesByType("resource").map(r => r.name).join(" ")`)
	if strings.Contains(seen, token) {
		b.Error("the token is in the document, an address or a storage")
	}
}

// withToken starts a keyway whose page needs a token.
func withToken(t *testing.T) (k *redistest.Process, admin string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	admin = fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	return redistest.ServeProcess(t, fmt.Sprintf("admin: {listen: %q, token_file: %q}\n", admin, file)+
		redistest.Ring(redistest.Start(t).Addr)), admin
}

// events returns the events of a keyway as text.
func events(t *testing.T, admin string) string {
	t.Helper()
	answer, err := http.Get("http://" + admin + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var all struct{ Events []overview.Event }
	if err := json.NewDecoder(answer.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(all)
}

// TestPageActs: the buttons of the page ask first, need the token, do what they say, and show what keyway answers. The
// page keeps the token in memory only. The events have who did what.
func TestPageActs(t *testing.T) {
	k, admin := withToken(t)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	c := redistest.Dial(t, k.Addr)
	c.MustDo("CLIENT", "SETNAME", "victim")
	id := c.Do("CLIENT", "ID").Int
	b := open(t, 1280, 900, "light")
	b.visit("http://" + admin)
	b.await(isLive)

	b.order("log-level")
	if text := eval[string](b, `document.querySelector("#order-command").textContent`); text != "KEYWAY LOG debug" {
		t.Errorf("the page asks whether to run %s", text)
	}
	b.close()
	if strings.Contains(events(t, admin), "log-level") {
		t.Error("the page acts before somebody has confirmed it")
	}
	b.expect("/log-level?level=warn")
	b.order("log-level")
	eval[bool](b, `document.querySelector("#order-choice").value = "warn", true`)
	if text := b.confirm("wrong-token-0123456789"); text != "keyway does not know this token." {
		t.Errorf("with a wrong token: %s", text)
	}
	if text := b.confirm(token); !strings.HasPrefix(text, "log.level: info -> warn") {
		t.Errorf("with the token: %s", text)
	}
	b.keepsSecret()
	b.close()
	b.await(`document.querySelector("#orders").innerText.includes("which is warn")`)

	kill := fmt.Sprintf("clients/kill?id=%d", id)
	b.await(fmt.Sprintf(`document.querySelector('[data-order="%s"]') !== null`, kill))
	b.order(kill)
	if text := b.confirm(""); !strings.HasPrefix(text, fmt.Sprintf("closed id=%d ", id)) {
		t.Errorf("closing a client: %s", text)
	}
	if reply, err := c.TryDo("PING"); err == nil {
		t.Errorf("the client is answered %s", reply.Text)
	}
	b.keepsSecret()
	b.close()

	b.order("reload")
	if text := b.confirm(""); !strings.HasSuffix(text, "says what it said before") {
		t.Errorf("a reload: %s", text)
	}
	b.close()
	b.refusal(admin)
	b.keepsSecret()
}

// TestPageActsAsUser: without a token, the page asks for the name and the password of a user, keeps them in memory
// only, and says what the user may not do.
func TestPageActsAsUser(t *testing.T) {
	admin := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	redistest.ServeProcess(t, "admin: "+admin+"\n"+redistest.Ring(redistest.Start(t).Addr)+
		"users:\n  - {name: opérateur, acl: \"on >"+token+" -@all +@admin -client|pause\"}\n")
	b := open(t, 1280, 900, "light")
	b.visit("http://" + admin)
	b.await(isLive)
	b.expect("/log-level?level=debug")
	b.order("log-level")
	const user = `document.querySelector("#order-user")`
	eval[bool](b, user+`.value = "opérateur", true`)
	if text := b.confirm("wrong-token-0123456789"); text != "keyway does not know this user with this password." {
		t.Errorf("with a wrong password: %s", text)
	}
	eval[bool](b, user+`.value = "opérateur", true`)
	if text := b.confirm(token); !strings.HasPrefix(text, "log.level: info -> debug") {
		t.Errorf("with the password: %s", text)
	}
	b.keepsSecret()
	b.close()
	b.expect("/clients/pause?mode=write&for=10000ms")
	b.order("clients/pause?mode=write")
	if text := b.confirm(""); !strings.Contains(text, "the rules of this user do not allow CLIENT PAUSE") {
		t.Errorf("what the user may not do: %s", text)
	}
	eval[bool](b, `document.querySelector("#order-forget").click(), true`)
	if !eval[bool](b, user+`.checkVisibility() && document.querySelector("#order-token").checkVisibility()`) {
		t.Error("the page does not forget the user")
	}
	b.keepsSecret()
	b.close()
	if all := events(t, admin); !strings.Contains(all, "user=opérateur") {
		t.Errorf("the events do not name the user: %s", all)
	}
}

// refusal sends an order that keyway refuses, and looks at the events of all orders.
func (b *tab) refusal(admin string) {
	b.Helper()
	t := b.T
	b.expect("/switch/pause")
	eval[bool](b, `document.querySelector('[data-order="reload"]').dataset.order = "switch/pause", true`)
	b.order("switch/pause")
	if text := b.confirm(""); !strings.HasPrefix(text, "no keys are on their way to another layout") {
		t.Errorf("what keyway refuses: %s", text)
	}
	eval[bool](b, `document.querySelector("#order-forget").click(), true`)
	if !eval[bool](b, `document.querySelector("#order-token").checkVisibility()`) {
		t.Error("the page does not forget the token")
	}
	b.close()
	b.await(`document.querySelector("#events").innerText.includes("POST /clients/kill")`)
	for _, want := range []string{
		"POST /log-level [result=log.level: info -> warn", "POST /clients/kill [result=closed", "POST /reload",
		"addr=127.0.0.1:",
	} {
		if all := events(t, admin); !strings.Contains(all, want) {
			t.Errorf("the events have no %s: %s", want, all)
		}
	}
}

// TestPageWithoutTokenActs: if the configuration has no token, the page says what is possible without, and how to get
// one.
func TestPageWithoutTokenActs(t *testing.T) {
	admin := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	redistest.ServeProcess(t, "admin: "+admin+"\n"+redistest.Ring(redistest.Start(t).Addr))
	b := open(t, 1280, 900, "light")
	b.visit("http://" + admin)
	b.await(isLive)
	b.order("reload")
	if text := b.confirm(""); !strings.HasSuffix(text, "says what it said before") {
		t.Errorf("a reload: %s", text)
	}
	b.close()
	b.order("clients/unpause")
	if text := eval[string](b, `document.querySelector("#order").innerText`); !strings.Contains(text,
		"This needs a token: write admin:") || eval[bool](b, `document.querySelector("#order-go").checkVisibility()`) {
		t.Errorf("the page lets somebody act: %s", text)
	}
}

// TestOrdersFitPhones: the question fits a phone, and what needs the script is not there without it.
func TestOrdersFitPhones(t *testing.T) {
	s := NewSample(3, Slots(3))
	s.Change(func(st *overview.State) { st.Switch = &overview.Switch{State: "moving", From: "slots", To: "ring"} })
	url := serve(t, s.Source())
	b := open(t, 390, 800, "light")
	b.visit(url)
	b.await(isLive)
	b.order("switch/rate")
	eval[bool](b, `document.querySelector("#order-value").value = "250",
		document.querySelector("#order-value").dispatchEvent(new Event("input")), true`)
	const command = `document.querySelector("#order-command").textContent`
	if text := eval[string](b, command); text != "keyway rate 250 -c FILE" {
		t.Errorf("the page asks whether to run %s", text)
	}
	if !eval[bool](b, `(r => r.left >= 0 && r.right <= 390)(
		document.querySelector("#order").getBoundingClientRect())`) {
		t.Error("the question is wider than the phone")
	}
	if err := chromedp.Do(b.ctx, chromedp.KeyEvent("\x1b")); err != nil {
		t.Fatal(err)
	}
	b.await(`document.activeElement.dataset.order === "switch/rate"`)

	plain := open(t, 390, 800, "light")
	if _, err := chromedp.Call(plain.ctx, emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	plain.visit(url)
	if shown := eval[int](plain, `[...document.querySelectorAll(".act, .acts, dialog")].filter(
		e => e.checkVisibility()).length`); shown > 0 {
		t.Errorf("without JavaScript there are %d buttons that do nothing", shown)
	}
	if text := eval[string](plain, "document.body.innerText"); !strings.Contains(text, "keyway reverse -c FILE") {
		t.Error("without JavaScript the page does not name the commands")
	}
}
