package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/audit"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// recorded is a keyway that records what operators do in a file.
type recorded struct {
	*reloadable
	record string
}

// recording starts a keyway with a token, a user and an audit file, whose nodes take CONFIG SET from clients.
func recording(t *testing.T, text string) *recorded {
	t.Helper()
	r := startReloadable(t, redistest.Ring(redistest.Start(t).Addr),
		"commands: {allow: [config]}\nusers: [{name: ann, acl: \"on >ann-password ~* &* +@all\"}]\n")
	r.tokenFile(0o600, firstToken)
	r.head = fmt.Sprintf("listen: %s\nadmin: {listen: %q, token_file: token}\n", r.listen, r.admin)
	r.reload(r.text + text)
	return &recorded{r, filepath.Join(r.dir, "audit.json")}
}

// has waits until the record has a line with these fields, and the time.
func (r *recorded) has(want map[string]string) {
	r.t.Helper()
	redistest.Eventually(r.t, 10*time.Second, fmt.Sprintf("the record has %v", want), func() bool {
		text, _ := os.ReadFile(r.record)
		for line := range strings.Lines(string(text)) {
			var got map[string]any
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				return false
			}
			same := got["msg"] == audit.Message
			for key, value := range want {
				text, _ := got[key].(string)
				head, tail, isPart := strings.Cut(value, "*")
				isPart = isPart && strings.HasPrefix(text, head) && strings.HasSuffix(text, tail)
				same = same && (text == value || isPart)
			}
			at, err := time.Parse(time.RFC3339, fmt.Sprint(got["time"]))
			if same && err == nil && time.Since(at) < time.Minute {
				return true
			}
		}
		return false
	})
}

// TestAuditOfAdmin: what is done and refused at the admin address is in the audit file, by whom, and with what result;
// so is what signals and changed files do. The file may be moved away.
func TestAuditOfAdmin(t *testing.T) {
	t.Parallel()
	r := recording(t, "audit: {file: audit.json}\n")
	const local = "127.0.0.1:*"
	r.answers(http.StatusOK, "POST", "/log-level?level=debug", firstToken)
	r.has(map[string]string{
		"action": "POST /log-level", "via": "admin", "addr": local, "result": "log.level: info -> debug*",
	})
	r.answers(http.StatusUnauthorized, "POST", "/reload", secondToken)
	r.has(map[string]string{"action": "POST /reload", "result": "refused", "error": "no valid token or password"})
	r.answers(http.StatusOK, "GET", "/debug/pprof/cmdline", firstToken)
	r.has(map[string]string{"action": "GET /debug/pprof/cmdline", "result": "done"})
	r.reload(r.text + "slowlog: {entries: 7}\n")
	r.has(map[string]string{"action": "POST /reload", "result": "reloaded *; slowlog.entries: 128 -> 7"})
	r.text = "nonsense: 1\n"
	r.write()
	r.process.Signal(syscall.SIGHUP)
	r.has(map[string]string{"action": "reload", "via": "signal", "result": "refused", "error": "*"})

	c := redistest.Dial(t, r.listen)
	c.Expect("OK", "AUTH", "ann", "ann-password")
	id := c.Do("CLIENT", "ID").Int
	r.answers(http.StatusConflict, "POST", "/clients/kill?id=1000000", firstToken)
	r.answers(http.StatusBadRequest, "POST", "/clients/kill?id=x", firstToken)
	r.answers(http.StatusUnauthorized, "POST", fmt.Sprintf("/clients/kill?id=%d", id), "")
	c.Expect("PONG", "PING")
	r.answers(http.StatusOK, "POST", fmt.Sprintf("/clients/kill?id=%d", id), firstToken)
	r.has(map[string]string{"action": "POST /clients/kill", "result": fmt.Sprintf("closed id=%d addr=*", id)})
	if reply, err := c.TryDo("PING"); err == nil {
		t.Errorf("the client is answered %s", reply.Text)
	}

	if err := os.Rename(r.record, r.record+".1"); err != nil {
		t.Fatal(err)
	}
	r.answers(http.StatusOK, "POST", "/log-level?level=file", firstToken)
	r.has(map[string]string{"action": "POST /log-level"})
	text, _ := os.ReadFile(r.record + ".1")
	all := string(text) + r.stderr.String()
	if strings.Contains(all, firstToken) || strings.Contains(all, secondToken) {
		t.Error("a token is recorded")
	}
	if log := r.stderr.String(); strings.Contains(log, audit.Message) {
		t.Errorf("the log has it, too: %s", log)
	}
	if info, err := os.Stat(r.record); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestAuditOfClients: commands by which clients act as operators are recorded with the user and without any password,
// in the log whatever its level is.
func TestAuditOfClients(t *testing.T) {
	t.Parallel()
	r := recording(t, "log: {level: error, format: json}\n")
	c, other := redistest.Dial(t, r.listen), redistest.Dial(t, r.listen)
	c.Expect("OK", "AUTH", "ann", "ann-password")
	other.Expect("OK", "AUTH", "ann", "ann-password")
	c.Expect("OK", "CONFIG", "SET", "masterauth", "very-secret", "maxmemory", "100mb")
	c.Expect("OK", "ACL", "SETUSER", "bob", "on", ">very-secret")
	c.Do("ACL", "SETUSER", "bob", "very-secret")
	c.Do("CLIENT", "KILL", "ID", fmt.Sprint(other.Do("CLIENT", "ID").Int))
	c.Expect("OK", "FLUSHALL")
	c.Expect("OK", "KEYWAY", "LOG", "warn")
	c.Do("AUTH", "bob", "very-secret-too")
	c.Expect("OK", "SET", "a", "1")
	for _, words := range [][]string{
		{`"action":"CONFIG SET masterauth maxmemory"`, `"result":"sent to all masters"`},
		{`"action":"ACL SETUSER bob"`, `"result":"done"`},
		{`"action":"ACL SETUSER bob"`, `"result":"refused"`},
		{`"action":"CLIENT KILL ID `, `"result":"closed 1 clients"`},
		{`"action":"FLUSHALL"`},
		{`"action":"KEYWAY LOG"`, `"result":"log.level: error -> warn`},
	} {
		words = append(words, `"msg":"operator action"`, `"via":"client"`, `"user":"ann"`, `"addr":"127.0.0.1:`)
		redistest.Eventually(t, 10*time.Second, fmt.Sprintf("the log has %q", words), func() bool {
			return lines(r.stderr.String(), words...) > 0
		})
	}
	if log := r.stderr.String(); strings.Contains(log, "very-secret") || strings.Contains(log, `SET a`) {
		t.Errorf("too much is recorded: %s", log)
	}
}

// TestFilesThatAreNotWritable: a file for what operators did, or for the access log, that keyway cannot write is an
// error at start and at a reload, which says what to do. So is a named pipe that nobody reads: keyway waits for nobody.
func TestFilesThatAreNotWritable(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	r := recording(t, "")
	before := r.text
	for _, key := range []string{"audit", "access_log"} {
		for _, file := range []string{"none/lines.json", pipe} {
			r.text = before + key + ": {file: " + file + "}\n"
			r.write()
			want := key + ".file: open "
			if out, ok := r.command(); ok || !strings.Contains(out, want) ||
				!strings.Contains(out, "; let keyway's user write the file") {
				t.Errorf("keyway reload with %s: %s", file, out)
			}
			if out, status := keyway(t, "serve", "-c", r.file); status != 1 || !strings.Contains(out, want) {
				t.Errorf("keyway serve with %s ends with %d: %s", file, status, out)
			}
		}
	}
}
