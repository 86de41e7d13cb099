package accesslog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/journey"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// output is what goroutines write.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// batch returns so many journeys, of which every second is not for the log.
func batch(lines int) *journey.Batch {
	b := new(journey.Batch)
	for range lines {
		j := journey.Journey{
			For: journey.ForLine, Command: "GET", Client: "1.2.3.4:5", User: "ann", Keys: 1,
			Start: 1000, End: 7000,
		}
		j.SetKey([]byte("k\xff"), &journey.Settings{Text: true, Hash: true})
		j.Tried(journey.Attempt{Node: "a", Written: 3000, Ended: 5000, Result: "MOVED"})
		j.Tried(journey.Attempt{Node: "b", Written: 5000, Ended: 7000})
		b.Journeys = append(b.Journeys, j, journey.Journey{For: journey.ForTrace})
	}
	return b
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	redistest.Eventually(t, 20*time.Second, what, ok)
}

// TestLines: a line has what the settings allow, and can be read as JSON.
func TestLines(t *testing.T) {
	var out, log output
	l := New(slog.New(slog.NewTextHandler(&log, nil)), &out)
	defer l.Close(time.Second)
	l.Take("p", batch(1))
	for _, s := range []Settings{{ToStdout: true}, {ToStdout: true, HasKeys: true}, {ToStdout: true, HasHash: true}} {
		before := l.Counts.Written.Load()
		l.Use(s)
		l.Take("p", batch(1))
		eventually(t, "a line is written", func() bool { return l.Counts.Written.Load() > before })
	}
	var got []map[string]any
	for line := range strings.Lines(out.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		got = append(got, fields)
	}
	if len(got) < 3 {
		t.Fatalf("%d lines: %s", len(got), out.String())
	}
	got = got[len(got)-3:]
	sum := sha256.Sum256([]byte("k\xff"))
	for i, want := range []struct{ key, hash any }{
		{nil, nil}, {`"k\xff"`, nil}, {nil, hex.EncodeToString(sum[:8])},
	} {
		l := got[i]
		if l["key"] != want.key || l["key_hash"] != want.hash || l["pool"] != "p" || l["command"] != "GET" ||
			l["node"] != "b" || l["duration_us"] != 6.0 || l["queue_us"] != 2.0 || l["node_us"] != 4.0 ||
			len(l["tries"].([]any)) != 2 || l["client"] != "1.2.3.4:5" || l["user"] != "ann" {
			t.Errorf("%v", l)
		}
	}
}

// TestFileThatCannotBeWritten: lines that cannot be written are counted and logged once, and later lines are written
// when the file can be again. A file that is moved away is made anew.
func TestFileThatCannotBeWritten(t *testing.T) {
	var log output
	dir := t.TempDir()
	path := filepath.Join(dir, "gone", "access.json")
	l := New(slog.New(slog.NewTextHandler(&log, nil)), &log)
	defer l.Close(time.Second)
	l.Use(Settings{Path: path})
	for i := range uint64(3) {
		l.Take("", batch(1))
		eventually(t, "a line is counted", func() bool { return l.Counts.Failed.Load() == i+1 })
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(2) {
		l.Take("", batch(5))
		eventually(t, "lines are written", func() bool { return l.Counts.Written.Load() == 5*(i+1) })
		text, err := os.ReadFile(path)
		if err != nil || strings.Count(string(text), "\n") != 5 {
			t.Errorf("%v: %q", err, text)
		}
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both are logged", func() bool {
		text := log.String()
		return strings.Count(text, "cannot write the access log") == 1 && strings.Count(text, "written again") == 1
	})
}

// stuck is a disk that takes nothing until it is freed.
type stuck chan struct{}

func (s stuck) Write(b []byte) (int, error) {
	<-s
	return len(b), nil
}

// TestNamedPipe: a named pipe that nobody reads is an error at once: a reload would wait for ever.
func TestNamedPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := Open(path); err == nil {
		f.Close()
		t.Error("nobody reads the pipe, and it was opened")
	}
}

// TestStuckDisk: while nothing can be written, lines are dropped and counted, and nobody waits.
func TestStuckDisk(t *testing.T) {
	var log output
	disk := make(stuck)
	l := New(slog.New(slog.NewTextHandler(&log, nil)), disk)
	l.Use(Settings{ToStdout: true})
	const n = 3 * maxWaiting
	for range n / 100 {
		l.Take("", batch(100))
	}
	l.Take("", &journey.Batch{LostLines: 7})
	if l.Counts.Dropped.Load() < maxWaiting {
		t.Errorf("%d were dropped", l.Counts.Dropped.Load())
	}
	close(disk)
	eventually(t, "each line is counted", func() bool {
		return l.Counts.Written.Load()+l.Counts.Dropped.Load() == n/100*100+7
	})
	eventually(t, "it is logged", func() bool { return strings.Contains(log.String(), "were dropped") })
	l.Close(10 * time.Second)
}
