package test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// actsAs sends a request to the admin address as a user.
func actsAs(t *testing.T, method, url, user, password string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(user, password)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if offered := answer.Header.Get("WWW-Authenticate"); strings.Contains(offered, "Basic") {
		t.Errorf("%s would make a browser keep a password: %s", url, offered)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// operatingUsers are users with different rights to act.
const operatingUsers = "users:\n  - {name: default, acl: \"on nopass ~* &* +@all\"}\n" +
	"  - {name: ops, acl: \"on >pw +@admin\"}\n" +
	"  - {name: app, acl: \"on >pw ~* &* +@all -@admin\"}\n" +
	"  - {name: killer, acl: \"on >pw -@all +client|kill\"}\n" +
	"  - {name: off, acl: \"off >pw +@all\"}\n" +
	"  - {name: anyone, acl: \"on nopass +@all\"}\n" +
	"  - {name: team, acl: \"on >pw ~* &* +@all\", prefix: \"team:\"}\n" +
	"  - {name: denied, acl: \"on >pw ~* &* +@all\", deny: [keyway]}\n"

// TestUsersAct: with or without a token, a user whose rules allow the command that does the same may act, by its name
// and password as they are now, and the record has its name. Others may not, nor does that open what only tokens do.
func TestUsersAct(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, redistest.Ring(redistest.Start(t).Addr)+operatingUsers, "threads: 2\n")
	at := "http://" + r.admin
	const level, pause, unpause, kill = "/log-level?level=warn", "/clients/pause?for=1ms&mode=all", "/clients/unpause",
		"/clients/kill?id=999999"
	for _, c := range []struct {
		user, page string
		status     int
	}{
		{"ops", level, 200}, {"ops", pause, 200}, {"ops", unpause, 200}, {"ops", kill, 409},
		{"ops", "/switch/pause", 409},
		{"ops", "/reload", 200}, {"app", level, 403}, {"app", kill, 403}, {"app", "/reload", 403},
		{"app", "/switch/reverse", 403}, {"app", "/upgrade", 403}, {"killer", kill, 409}, {"killer", level, 403},
		{"killer", pause, 403}, {"denied", level, 403}, {"denied", kill, 409},
		{"nobody", unpause, 401}, {"off", unpause, 401}, {"default", unpause, 401},
	} {
		if status, text := actsAs(t, "POST", at+c.page, c.user, "pw"); status != c.status {
			t.Errorf("%s: POST %s: %d %s", c.user, c.page, status, text)
		}
	}
	r.takeToken()
	if status, _ := actsAs(t, "POST", at+level, "ops", "pw"); status != http.StatusOK {
		t.Errorf("with a token_file, ops gets %d", status)
	}
	r.says("log.level: ", http.StatusOK, level)
	for _, user := range []string{"anyone", "team"} {
		if status, _ := actsAs(t, "POST", at+level, user, "pw"); status != http.StatusUnauthorized {
			t.Errorf("%s gets %d", user, status)
		}
	}
	if status, _ := actsAs(t, "GET", at+"/debug/pprof/cmdline", "ops", "pw"); status != http.StatusUnauthorized {
		t.Errorf("a user gets what only tokens give: %d", status)
	}
	c := redistest.Dial(t, r.listen)
	c.Expect("OK", "ACL", "SETUSER", "app", "+keyway|log")
	c.Expect("OK", "ACL", "SETUSER", "ops", "-@admin")
	if status, text := actsAs(t, "POST", at+"/log-level?level=file", "app", "pw"); status != http.StatusOK {
		t.Errorf("with a right that it has just got: %d %s", status, text)
	}
	if status, _ := actsAs(t, "POST", at+level, "ops", "pw"); status != http.StatusForbidden {
		t.Errorf("with a right that it has lost: %d", status)
	}
	for _, words := range [][]string{
		{"POST /clients/pause", "user=ops", "addr=127.0.0.1:", "via=admin"}, {"POST /log-level", "user=app", "file"},
		{"POST /upgrade", "user=app", "the rules of the user do not allow it"},
	} {
		redistest.Eventually(t, 10*time.Second, fmt.Sprintf("an event has %q", words), func() bool {
			return eventOf(t, r.admin, "operator", words...) != nil
		})
	}
	if e := eventOf(t, r.admin, "operator", "no valid token"); e != nil {
		t.Errorf("strangers make events: %+v", e)
	}
}

// TestNobodyActsWithoutPasswords: users without passwords, and a file without users, open nothing.
func TestNobodyActsWithoutPasswords(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, redistest.Ring(redistest.Start(t).Addr), "")
	for _, more := range []string{"", "users:\n  - {name: anyone, acl: \"on nopass ~* &* +@all\"}\n"} {
		if more != "" {
			r.reload(r.text + more)
		}
		for _, user := range []string{"default", "anyone"} {
			status, text := actsAs(t, "POST", "http://"+r.admin+"/clients/unpause", user, "any")
			if status != http.StatusForbidden || !strings.Contains(text, "needs a token: write admin:") {
				t.Errorf("%s: %d %s", user, status, text)
			}
		}
	}
}

// TestGuessesAtTheAdminAddress: wrong passwords delay later ones and right ones from the same address, as those of AUTH
// do, and do not delay requests with the token.
func TestGuessesAtTheAdminAddress(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, redistest.Ring(redistest.Start(t).Addr)+operatingUsers, "")
	r.takeToken()
	page := "http://" + r.admin + "/clients/unpause"
	const wrong = 9
	for range wrong {
		if status, _ := actsAs(t, "POST", page, "ops", "wrong"); status != http.StatusUnauthorized {
			t.Fatalf("a wrong password gets %d", status)
		}
	}
	begun := time.Now()
	if status, _ := actsAs(t, "POST", page, "ops", "pw"); status != http.StatusOK {
		t.Errorf("the right password gets %d", status)
	}
	if took := time.Since(begun); took < 300*time.Millisecond {
		t.Errorf("after %d wrong passwords the right one is looked at within %s", wrong, took)
	}
	r.says("clients go on\n", http.StatusOK, "/clients/unpause")
}

// TestCommandsActAsUser: keyway's commands act as the user of --user, with a password from a file or the environment.
// What is missing is said before anything is sent.
func TestCommandsActAsUser(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, redistest.Ring(redistest.Start(t).Addr)+operatingUsers, "")
	r.takeToken()
	right, empty := redistest.WriteFile(t, "right", "pw\n"), redistest.WriteFile(t, "empty", "\n")
	for _, c := range []struct {
		args []string
		env  string
		want string
	}{
		{[]string{"--user", "ops", "--password-file", right}, "KEYWAY_PASSWORD=wrong", "log.level: info -> debug"},
		{[]string{"--user", "ops"}, "KEYWAY_PASSWORD=pw", "log.level: "},
		{[]string{"--user", "ops"}, "KEYWAY_PASSWORD=wrong", "no user with a password has this name and this password"},
		{[]string{"--user", "app", "--password-file", right}, "A=", "do not allow KEYWAY LOG"},
		{[]string{"--user", "ops"}, "A=", "the environment variable KEYWAY_PASSWORD"},
		{[]string{"--user", "ops", "--password-file", empty}, "A=", "must have one line, the password"},
		{[]string{"--user", "ops", "--token-file", right}, "A=", "leave out one of them"},
		{[]string{"--password-file", right}, "A=", "name the user with --user"},
	} {
		args := append([]string{"log-level", "debug", "--admin", r.admin, "-c", "no-such-file.yml"}, c.args...)
		cmd := exec.Command(redistest.Build(t), args...)
		cmd.Env = append(os.Environ(), c.env)
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), c.want) || (err == nil) != strings.HasPrefix(c.want, "log.level") {
			t.Errorf("%q with %s: %v, %s", c.args, c.env, err, out)
		}
	}
	if e := eventOf(t, r.admin, "operator", "POST /log-level", "user=ops"); e == nil {
		t.Error("no event names the user")
	}
}
