package admin

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// slowLog is what reads a log: it takes a line whenever one is asked for.
type slowLog struct {
	take chan struct{}
	mu   sync.Mutex
	text strings.Builder
}

func (s *slowLog) Write(p []byte) (int, error) {
	<-s.take
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// TestLogQueue checks that a log that nobody reads blocks no writer, that dropped lines are
// counted and reported when lines can be written again, and that Close returns in time.
func TestLogQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &slowLog{take: make(chan struct{})}
		q := NewLogQueue(out)
		var reported []uint64
		q.Resumed = func(n uint64) { reported = append(reported, n) }
		for range logLines + 101 {
			q.Write([]byte("x\n"))
			synctest.Wait() // one line is with the writer
		}
		if n := q.Dropped(); n != 100 {
			t.Errorf("%d lines were dropped", n)
		}
		for range 3 {
			out.take <- struct{}{}
		}
		synctest.Wait()
		if len(reported) != 1 || reported[0] != 100 {
			t.Errorf("reported %v", reported)
		}
		began := time.Now()
		q.Close(time.Second)
		if d := time.Since(began); d != time.Second {
			t.Errorf("Close returned after %s", d)
		}
		q.Write([]byte("late\n"))
		close(out.take)
		q.Close(time.Second)
		if text := out.text.String(); text != strings.Repeat("x\n", logLines+1) || q.Dropped() != 101 {
			t.Errorf("%d bytes, %d dropped", len(text), q.Dropped())
		}
	})
}
