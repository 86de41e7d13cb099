package passwords

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestRun: a command prints a password in one line. Other outputs, and failures, are errors that say
// why and show nothing of what was printed.
func TestRun(t *testing.T) {
	for script, want := range map[string]string{
		"echo secret":                 "secret",
		"printf secret":               "secret",
		`printf ' sec ret \r\n'`:      " sec ret ",
		"cat; echo secret":            "secret", // the standard input is empty
		"sleep 30 & echo secret":      "secret", // what it leaves behind does not matter
		"true":                        `"sh" prints nothing`,
		"echo; echo no token >&2":     `"sh" prints nothing: no token`,
		"echo secret; echo secret":    `"sh" prints several lines, and a password is one`,
		"echo secret; exit 3":         `"sh" failed: exit status 3`,
		"echo 'bad\nkey' >&2; exit 1": `"sh" failed: exit status 1: bad key`,
		"yes secret":                  `"sh" prints more than 65536 bytes`,
		"kill -9 $$":                  `"sh" failed: signal: killed`,
	} {
		got, err := run(t.Context(), []string{"sh", "-c", script})
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	_, err := run(t.Context(), []string{"/no/such/program"})
	if err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}

// TestRunEnds: a command that hangs is killed in time, with the processes that it has started.
func TestRunEnds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := run(ctx, []string{"sh", "-c", "echo waiting >&2; sleep 60 & echo $! >" + file + "; wait"})
	if err == nil || err.Error() != `"sh" did not end in 10s: waiting` {
		t.Errorf("%v", err)
	}
	text, _ := os.ReadFile(file)
	var pid int
	for _, digit := range strings.TrimSpace(string(text)) {
		pid = 10*pid + int(digit-'0')
	}
	if pid == 0 {
		t.Fatalf("no process: %q", text)
	}
	for until := time.Now().Add(10 * time.Second); isAlive(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the process that the command has started still runs")
		}
	}
}

// isAlive reports whether a process runs. One that nobody has waited for yet does not.
func isAlive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if os.IsNotExist(err) && hasProc() {
		return false
	}
	if err == nil {
		return !strings.Contains(string(stat), ") Z ")
	}
	return syscall.Kill(pid, 0) == nil
}

func hasProc() bool {
	_, err := os.Stat("/proc/self/stat")
	return err == nil
}

// watched is a keeper of one command, which prints the contents of a file.
type watched struct {
	t     *testing.T
	file  string
	of    *Password
	log   safeLog
	calls chan string // the password after each change
}

// safeLog is a log that one goroutine writes and another reads.
type safeLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *safeLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String returns the text.
func (l *safeLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newWatched(t *testing.T, refresh time.Duration) *watched {
	t.Helper()
	w := &watched{t: t, file: filepath.Join(t.TempDir(), "token"), calls: make(chan string, 100)}
	w.print("one")
	k := NewKeeper(slog.New(slog.NewTextHandler(&w.log, nil)))
	var err error
	if w.of, err = k.Get(t.Context(), Command{[]string{"cat", w.file}, refresh}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		k.Run(ctx, func() { w.calls <- w.of.Text() })
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return w
}

// print replaces the file at once.
func (w *watched) print(password string) {
	w.t.Helper()
	if err := os.WriteFile(w.file+".new", []byte(password+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(w.file+".new", w.file); err != nil {
		w.t.Fatal(err)
	}
}

// await waits for the next change.
func (w *watched) await(want string) {
	w.t.Helper()
	select {
	case got := <-w.calls:
		if got != want {
			w.t.Errorf("the password has become %q, want %q", got, want)
		}
	case <-time.After(20 * time.Second):
		w.t.Fatalf("the password has not become %q", want)
	}
}

// until waits for something about the figures.
func (w *watched) until(what string, ok func(Figures) bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(w.of.Figures()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("not %s: %+v", what, w.of.Figures())
		}
	}
}

// TestKeeperRefreshes: a command runs again after its time, and only another password is a change.
func TestKeeperRefreshes(t *testing.T) {
	w := newWatched(t, 50*time.Millisecond)
	if w.of.Text() != "one" {
		t.Fatal(w.of.Text())
	}
	w.until("run three times", func(f Figures) bool { return f.Runs >= 3 })
	if len(w.calls) > 0 {
		t.Error("the same password counts as a change")
	}
	w.print("two")
	w.await("two")
}

// TestKeeperObeysServers: a password that a server refuses is replaced at once, and not before. While
// the command prints the same, refusals make it run ever more rarely.
func TestKeeperObeysServers(t *testing.T) {
	w := newWatched(t, 0)
	w.print("two")
	if w.of.Text() != "one" || w.of.Figures().Runs != 1 {
		t.Errorf("%s after %+v", w.of.Text(), w.of.Figures())
	}
	w.of.Refused()
	w.await("two")
	began, before := time.Now(), w.of.Figures().Runs
	for time.Since(began) < 2500*time.Millisecond {
		w.of.Refused()
		time.Sleep(time.Millisecond)
	}
	if runs := w.of.Figures().Runs - before; runs < 1 || runs > 2 {
		t.Errorf("%d runs in 2.5 s of refusals", runs)
	}
}

// TestKeeperKeepsTheLast: while a command fails, its last password stays, the log says why, and the
// command runs again until it works.
func TestKeeperKeepsTheLast(t *testing.T) {
	w := newWatched(t, 50*time.Millisecond)
	os.Remove(w.file)
	w.until("failed", func(f Figures) bool { return f.Failures > 0 })
	if w.of.Text() != "one" {
		t.Errorf("after a failure: %q", w.of.Text())
	}
	w.print("two")
	w.await("two")
	for _, want := range []string{
		"cannot get a new password; keyway keeps the last one", "No such file", "retry_in=1s", "works again",
	} {
		if !strings.Contains(w.log.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, w.log.String())
		}
	}
}

// TestKeeperRunsOnce: sections with the same command share a run, and Retain ends the others.
func TestKeeperRunsOnce(t *testing.T) {
	k := NewKeeper(nil)
	get := func(c Command) *Password {
		p, err := k.Get(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	c := Command{[]string{"echo", "a b"}, time.Hour}
	one, two := get(c), get(c)
	other := get(Command{[]string{"echo", "a", "b"}, time.Hour})
	if one != two || one == other || one.Figures().Runs != 1 {
		t.Errorf("%+v", one.Figures())
	}
	k.Retain([]*Password{other})
	if get(c) == one || len(k.of) != 2 {
		t.Error("a password that was not retained is still kept")
	}
}
