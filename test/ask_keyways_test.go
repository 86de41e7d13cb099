package test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestPlanAsksRunningKeyways: with -c, the old configuration is that of the running keyways.
// Those that were not asked are found by their connections to the nodes.
func TestPlanAsksRunningKeyways(t *testing.T) {
	t.Parallel()
	nodes, three, four := growing(t)
	for _, n := range nodes {
		n.Do("CONFIG", "SET", "requirepass", "n0de")
	}
	accounts := "backend: {password: n0de}\nclients: {password: cl1ent}\n"
	one := startReloadable(t, three, "instance: kw-1\n"+accounts)
	newer := redistest.WriteFile(t, "new.yml", "admin: "+one.admin+"\n"+four+accounts)
	asked := func(flags ...string) (string, int) {
		return keyway(t, append([]string{"plan", "-c", newer}, flags...)...)
	}
	out, status := asked()
	expectPlan(t, out, status, 0, "modulo of 3 nodes -> modulo of 4 nodes", "keyways  kw-1 at "+one.admin, "READY")
	whole, _ := runPlan(t, three+accounts, four+accounts)
	if same, _, _ := strings.Cut(out, "\nNODE"); !strings.HasPrefix(whole, same) {
		t.Errorf("asked:\n%s\nof two files:\n%s", out, whole)
	}

	two := startReloadable(t, three, "instance: kw-2\n"+accounts)
	redistest.Eventually(t, 10*time.Second, "kw-2 is seen", func() bool {
		out, status = asked()
		return strings.Contains(out, "kw-2")
	})
	expectPlan(t, out, status, 0, "note: 1 more keyway serves these nodes: kw-2 at 127.0.0.1; to count what their "+
		"clients do, too, name its admin address with --admin", "READY") // keyway switch needs nobody to ask it
	out, status = asked("--watch", "1s")
	expectPlan(t, out, status, 2, "not ready: keyways: 1 more keyway serves these nodes: kw-2 at 127.0.0.1; "+
		"name its admin address with --admin", "NOT READY: keyways")
	out, status = asked("--watch", "1s", "--accept", "keyways")
	expectPlan(t, out, status, 0, "accepted: keyways: 1 more keyway", "READY")
	out, status = asked("--admin", one.admin+","+two.admin+","+one.admin)
	both := "keyways  kw-1 at " + one.admin + "\n         kw-2 at " + two.admin + "\n"
	expectPlan(t, out, status, 0, both, "READY")

	dead := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	out, status = asked("--admin", one.admin+","+dead, "--accept", "others")
	expectPlan(t, out, status, 2, "not ready: keyways: asking keyway at "+dead+": ",
		"connection refused; start it, or leave its address out", "NOT READY: keyways")
	out, status = asked("--admin", dead)
	expectPlan(t, out, status, 1, "keyway: asking keyway at "+dead, "start keyway, or name the admin addresses of the "+
		"running ones with --admin")
	two.process.Kill()
	other := startReloadable(t, strings.Replace(three, "modulo", "ring", 1), "instance: kw-3\n"+accounts+
		"placement: {misplaced: allow}\n")
	out, status = asked("--admin", one.admin+","+other.admin, "--accept", "keyways")
	expectPlan(t, out, status, 2, "not ready: placement: keyway kw-3 ("+other.admin+") looks for keys by another ",
		"give both the same configuration first", "NOT READY: placement")
}

// TestPlanAskedWrongly: each wrong call says what to write.
func TestPlanAskedWrongly(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	ring := redistest.Ring("127.0.0.1:1")
	file := redistest.WriteFile(t, "new.yml", ring)
	const needs = "keyway plan needs the file of the new layout, or both files; write keyway plan NEW.yml, or "
	for want, args := range map[string][]string{
		needs: {},
		"keyway plan takes one or two files, or one with -c; leave out \"" + file + "\" or -c": {"-c", file, file},
		"--admin asks running keyways, so it goes with -c NEW.yml; leave it out": {
			file, file, "--admin", "h:1",
		},
		"new.yml has no admin address; name those of the running keyways with --admin": {file},
		"--admin a b: write HOST:PORT": {"-c", file, "--admin", "a b"},
	} {
		out, status := keyway(t, append([]string{"plan"}, args...)...)
		expectPlan(t, out, status, 1, want)
	}
	old := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t)), Handler: http.NotFoundHandler()}
	go old.ListenAndServe()
	t.Cleanup(func() { old.Close() })
	redistest.Eventually(t, 5*time.Second, "an old keyway answers", func() bool {
		out, status := keyway(t, "plan", "-c", file, "--admin", old.Addr)
		return status == 1 && strings.Contains(out,
			old.Addr+" is no admin address of a keyway that tells its placement: it answers 404 Not Found")
	})
}

// TestAdminShowsNoSecrets: no page of the admin address shows a password or a user.
func TestAdminShowsNoSecrets(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	for _, n := range nodes {
		n.Do("ACL", "SETUSER", "us3r", "on", ">s3cr3t", "~*", "&*", "+@all")
	}
	r := startReloadable(t, redistest.NodesYAML(nodes), "layout: ring\nbackend: {username: us3r, password: s3cr3t}\n"+
		"clients: {password: [cl1ent, 0ther]}\nscripts: {per_key: [{text: \"return scr1pt\"}]}\n")
	modulo := redistest.NodesYAML(nodes) + "layout: modulo\n"
	if status, text := askAdmin(http.MethodPost, r.admin, "/next-layout?for=1m", modulo); status != http.StatusOK {
		t.Fatal(status, text)
	}
	for _, page := range []string{"/placement", "/metrics", "/readyz", "/healthz", "/next-layout"} {
		text := adminPage(t, r.admin, page)
		for _, secret := range []string{"us3r", "s3cr3t", "cl1ent", "0ther", "scr1pt", "backend", "clients:"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows %q:\n%s", page, secret, text)
			}
		}
		if page == "/placement" && !strings.Contains(text, `"layout":"ring"`) {
			t.Errorf("%s: %s", page, text)
		}
	}
}

// adminPage returns a page of an admin address.
func adminPage(t *testing.T, addr, page string) string {
	t.Helper()
	status, text := askAdmin(http.MethodGet, addr, page, "")
	if status != http.StatusOK {
		t.Fatalf("%s: %d %s", page, status, text)
	}
	return text
}

// askAdmin sends a request to an admin address, over a connection of its own. The status is 0
// if there is no answer.
func askAdmin(method, addr, page, body string) (status int, text string) {
	req, err := http.NewRequest(method, "http://"+addr+page, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	reply, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer reply.Body.Close()
	b, err := io.ReadAll(reply.Body)
	if err != nil {
		return 0, err.Error()
	}
	return reply.StatusCode, string(b)
}
