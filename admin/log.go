package admin

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// LogQueue writes log lines in a goroutine of its own, so that an event loop that logs
// never waits for the log's reader. If the queue is full, lines are dropped and counted.
type LogQueue struct {
	// Resumed, if not nil, is called when lines can be written again after some were
	// dropped, with the number of these. Set it before the first line is written.
	Resumed func(dropped uint64)

	out     io.Writer
	dropped atomic.Uint64
	written chan struct{} // closed when the last line has been written

	mu     sync.Mutex // never held while anything is written
	lines  chan []byte
	closed bool
}

// logLines is the number of lines that may wait for the log's reader.
const logLines = 1024

// NewLogQueue returns a queue to out. Close ends its goroutine.
func NewLogQueue(out io.Writer) *LogQueue {
	q := &LogQueue{out: out, lines: make(chan []byte, logLines), written: make(chan struct{})}
	go q.run()
	return q
}

// Write queues one line. It never blocks and never fails.
func (q *LogQueue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		q.dropped.Add(1)
		return len(line), nil
	}
	select {
	case q.lines <- append([]byte(nil), line...):
	default:
		q.dropped.Add(1)
	}
	return len(line), nil
}

func (q *LogQueue) run() {
	defer close(q.written)
	reported := uint64(0)
	for line := range q.lines {
		if _, err := q.out.Write(line); err != nil {
			q.dropped.Add(1)
			continue
		}
		if n := q.dropped.Load(); n != reported && q.Resumed != nil {
			q.Resumed(n - reported)
			reported = n
		}
	}
}

// Dropped returns the number of lines dropped so far.
func (q *LogQueue) Dropped() uint64 { return q.dropped.Load() }

// Close blocks until all lines are written or the time is over, and drops later lines.
func (q *LogQueue) Close(within time.Duration) {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.lines)
	}
	q.mu.Unlock()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-q.written:
	case <-timer.C:
	}
}
