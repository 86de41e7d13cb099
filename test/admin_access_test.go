package test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

const (
	firstToken  = "first-token-0123456789"
	secondToken = "second-token-9876543210"
)

// requestAdmin sends a request to an admin address, and returns the status and the answer; 0 if there is none.
func requestAdmin(t testing.TB, method, url, token string, by *tls.Config) (status int, text string) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{
		Transport: &http.Transport{TLSClientConfig: by, DisableKeepAlives: true}, Timeout: 10 * time.Second,
	}
	answer, err := client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	b, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(b)
}

// tokenFile writes tokens to a file beside that of keyway.
func (r *reloadable) tokenFile(mode os.FileMode, tokens ...string) {
	r.t.Helper()
	file := filepath.Join(r.dir, "token")
	if err := os.WriteFile(file, []byte(strings.Join(tokens, "\n")+"\n"), mode); err != nil {
		r.t.Fatal(err)
	}
}

// answers checks the status of a request to the admin address, and returns the answer.
func (r *reloadable) answers(want int, method, page, token string) string {
	r.t.Helper()
	status, text := requestAdmin(r.t, method, "http://"+r.admin+page, token, nil)
	if status != want {
		r.t.Errorf("%s %s with %q: %d %s", method, page, token, status, text)
	}
	return text
}

// withToken starts a keyway whose token_file has the first token.
func withToken(t *testing.T) *reloadable {
	t.Helper()
	r := startReloadable(t, redistest.Ring(redistest.Start(t).Addr), "")
	if text := r.answers(http.StatusForbidden, "POST", "/log-level?level=debug", firstToken); !strings.Contains(text,
		"/log-level needs a token: write admin: {listen: ADDRESS, token_file: FILE}") {
		t.Errorf("without tokens: %s", text)
	}
	r.tokenFile(0o644, firstToken)
	r.head = fmt.Sprintf("listen: %s\nadmin: {listen: %q, token_file: token}\n", r.listen, r.admin)
	if out := r.reload(""); !strings.Contains(out, "  admin.token_file: changed (not shown)\n") {
		t.Errorf("reload printed %s", out)
	}
	r.logs("so act as operators; chmod 600 it")
	return r
}

// TestAdminToken: with a token_file, what acts needs a token of the file, as it is now. Reading needs none.
func TestAdminToken(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	r := withToken(t)
	for _, page := range []string{"/metrics", "/readyz", "/placement", "/log-level"} {
		r.answers(http.StatusOK, "GET", page, "")
	}
	r.answers(http.StatusUnauthorized, "POST", "/reload", "")
	r.answers(http.StatusUnauthorized, "POST", "/upgrade", secondToken)
	r.answers(http.StatusUnauthorized, "POST", "/next-layout?for=1m", "")
	r.answers(http.StatusUnauthorized, "DELETE", "/next-layout?id=x", "")
	r.answers(http.StatusUnauthorized, "GET", "/debug/pprof/heap", "")
	r.answers(http.StatusOK, "GET", "/debug/pprof/goroutine?debug=1", firstToken)
	r.answers(http.StatusOK, "POST", "/log-level?level=debug", firstToken)
	r.answers(http.StatusBadRequest, "POST", "/log-level?level=loud", firstToken)
	redistest.Ask(r.listen, "PING")
	r.logs("level=DEBUG msg=\"client accepted\"")

	r.tokenFile(0o600, firstToken, secondToken)
	takes := func(token string, want int) {
		t.Helper()
		redistest.Eventually(t, 20*time.Second, fmt.Sprintf("%s gets %d", token, want), func() bool {
			status, _ := requestAdmin(t, "POST", "http://"+r.admin+"/log-level?level=debug", token, nil)
			return status == want
		})
	}
	takes(secondToken, http.StatusOK)
	takes(firstToken, http.StatusOK)
	if text := r.answers(http.StatusOK, "GET", "/log-level", ""); text != "debug\n" {
		t.Errorf("after a reload that does not change it, the level is %s", text)
	}
	r.tokenFile(0o600, secondToken)
	takes(firstToken, http.StatusUnauthorized)
	r.answers(http.StatusOK, "POST", "/log-level?level=file", secondToken)
	if log := r.stderr.String(); strings.Contains(log, firstToken) || strings.Contains(log, secondToken) {
		t.Error("the log has a token")
	}
}

// TestCommandsSendToken: keyway's commands send the token of their file, or of --token-file.
func TestCommandsSendToken(t *testing.T) {
	t.Parallel()
	r := withToken(t)
	if out, ok := r.command(); !ok { // the token of the file
		t.Errorf("keyway reload: %s", out)
	}
	if out, ok := r.command("--token-file", redistest.WriteFile(t, "wrong", secondToken)); ok || !strings.Contains(out,
		"not reloaded: keyway at "+r.admin+": /reload needs the header Authorization: Bearer TOKEN") {
		t.Errorf("keyway reload with a wrong token: %s", out)
	}
	planned := redistest.WriteFile(t, "new.yml", r.nodes)
	named := []string{"plan", "-c", planned, "--watch", "100ms", "--admin", r.admin}
	if out, status := keyway(t, named...); status != 1 || !strings.Contains(out, "/next-layout needs the header") {
		t.Errorf("keyway plan --watch without a token ends with %d: %s", status, out)
	}
	token := redistest.WriteFile(t, "right", firstToken)
	if out, status := keyway(t, append(named, "--token-file", token)...); status != 0 {
		t.Errorf("keyway plan --watch with a token ends with %d: %s", status, out)
	}
}

// TestCommandsThatAct: keyway log-level and kill do what they say, with the token only.
func TestCommandsThatAct(t *testing.T) {
	t.Parallel()
	r := withToken(t)
	c := redistest.Dial(t, r.listen)
	id := strconv.FormatInt(c.MustDo("CLIENT", "ID").Int, 10)
	token := redistest.WriteFile(t, "right", firstToken)
	for _, args := range [][]string{{"log-level", "debug"}, {"kill", id}} {
		args = append(args, "--admin", r.admin, "-c", "no-such-file.yml")
		if out, status := keyway(t, args...); status != 1 || !strings.Contains(out, "needs the header") {
			t.Errorf("keyway %q without a token ends with %d: %s", args, status, out)
		}
		if out, status := keyway(t, append(args, "--token-file", token)...); status != 0 {
			t.Errorf("keyway %q ends with %d: %s", args, status, out)
		}
	}
	if text := r.answers(http.StatusOK, "GET", "/log-level", ""); text != "debug\n" {
		t.Errorf("the level is %s", text)
	}
	if reply, err := c.TryDo("PING"); err == nil {
		t.Errorf("the client that was killed gets %s", reply)
	}
	if out, status := keyway(t, "kill", "x"); status != 1 || !strings.Contains(out, "write the ID of a client") {
		t.Errorf("keyway kill x ends with %d: %s", status, out)
	}
	for _, args := range [][]string{
		{"kill", "1", "--admin", r.admin, "--token-file", "no-such.token"},
		{"kill", "1", "--admin", "https://" + r.admin, "--token-file", token},
		{"clients", "--admin", "https://" + r.admin},
	} {
		out, status := keyway(t, append(args, "-c", "no-such-file.yml")...)
		if status != 1 || strings.Contains(out, "; start ") {
			t.Errorf("keyway %q says of a keyway that runs, with status %d: %s", args, status, out)
		}
	}
	for _, args := range [][]string{{"route", "key"}, {"kill", "1"}, {"clients"}, {"reload"}} {
		out, status := keyway(t, append(args, "-c", "no-such-file.yml")...)
		if status != 1 || !strings.Contains(out, "--config; or ") || !strings.Contains(out, "with --admin") {
			t.Errorf("keyway %q without a file ends with %d: %s", args, status, out)
		}
	}
}

// tlsAdmin writes a head whose admin address speaks TLS.
func (r *reloadable) tlsAdmin(cert, key, more string) {
	r.t.Helper()
	r.head = fmt.Sprintf("listen: %s\nadmin: {listen: %q, tls: {cert: %q, key: %q%s}}\n",
		r.listen, r.admin, cert, key, more)
	r.write()
}

// health expects a text in what keyway health prints.
func health(t *testing.T, want string, args ...string) {
	t.Helper()
	if out, _ := keyway(t, append([]string{"health"}, args...)...); !strings.Contains(out, want) {
		t.Errorf("keyway health %q: %s, want %s", args, out, want)
	}
}

// TestAdminTLS: the admin address speaks TLS from a reload on, and keyway's commands follow. Connections from before
// end.
func TestAdminTLS(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	r := startReloadable(t, redistest.Ring(redistest.Start(t).Addr), "")
	ca := redistest.NewAuthority(t)
	cert, key := ca.Issue("server", 24*time.Hour)
	open := &http.Transport{}
	defer open.CloseIdleConnections()
	onOpen := func() (ok, lasts bool) {
		answer, err := (&http.Client{Transport: open}).Get("http://" + r.admin + "/healthz")
		if err != nil {
			return false, false
		}
		defer answer.Body.Close()
		io.Copy(io.Discard, answer.Body)
		return answer.StatusCode == http.StatusOK, !answer.Close
	}
	if ok, lasts := onOpen(); !ok || !lasts {
		t.Fatal("the address does not keep a connection")
	}
	r.tlsAdmin(cert, key, "")
	if out, ok := r.command("--admin", "http://"+r.admin); !ok {
		t.Errorf("keyway reload: %s", out)
	}
	if ok, lasts := onOpen(); !ok || lasts {
		t.Errorf("a connection from before is served: %v, and stays: %v", ok, lasts)
	}
	if ok, _ := onOpen(); ok {
		t.Error("the address still answers without TLS")
	}
	if status, text := requestAdmin(t, "GET", "https://"+r.admin+"/metrics", "", ca.Config("")); status != 200 ||
		!strings.Contains(text, `keyway_tls_certificate_expiry_timestamp_seconds{file="`+cert+`"}`) {
		t.Errorf("TLS: %d", status)
	}
	health(t, "ok\n", "-c", r.file)
	health(t, "speaks TLS; write --admin https://"+r.admin, "--admin", r.admin)
	health(t, "name the authority that signs keyway's certificate with --cacert", "--admin", "https://"+r.admin)
	health(t, "ok\n", "--admin", "https://"+r.admin, "--cacert", ca.File)
	health(t, "ok\n", "--admin", "https://"+r.admin, "--insecure")
	health(t, "it does not speak TLS", "--admin", "https://"+r.listen, "--timeout", "1s")
	if out, status := keyway(t, "route", "--admin", "https://"+r.admin, "--cacert", ca.File, "x"); status != 0 {
		t.Errorf("keyway route: %s", out)
	}

	operator, private := ca.Issue("ann", 24*time.Hour)
	r.tlsAdmin(cert, key, fmt.Sprintf(", client_ca: %q", ca.File))
	if out, ok := r.command(); !ok {
		t.Errorf("keyway reload over TLS: %s", out)
	}
	for name, want := range map[string]int{"": 0, "ann": http.StatusOK} {
		status, text := requestAdmin(t, "GET", "https://"+r.admin+"/metrics", "", ca.Config(name))
		if status != want {
			t.Errorf("with the certificate %q: %d %s", name, status, text)
		}
	}
	health(t, "name a certificate that its admin.tls.client_ca has signed with --cert and --key", "-c", r.file)
	health(t, "ok\n", "-c", r.file, "--cert", operator, "--key", private)
}
