package accesslog

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/keyway-proxy/keyway/journey"
)

const (
	maxWaiting = 8192    // lines that may wait for the disk
	maxBatch   = 1 << 20 // bytes that are written at once
)

// Settings say where the lines go, and what they show of keys.
type Settings struct {
	Path     string // empty: nowhere
	ToStdout bool   // instead of Path
	HasKeys  bool   // the first keys of commands are shown
	HasHash  bool   // their hashes are shown
}

// Counts count lines.
type Counts struct {
	Written atomic.Uint64
	Failed  atomic.Uint64 // the file could not be written
	Dropped atomic.Uint64 // too many waited
}

// Log writes lines in a goroutine of its own.
type Log struct {
	Counts   Counts
	settings atomic.Pointer[Settings]
	stdout   io.Writer
	log      *slog.Logger
	waiting  atomic.Pointer[chan followed] // nil: there was nothing to write yet
	closing  chan struct{}
	closed   chan struct{}

	text      bytes.Buffer
	encoder   *json.Encoder
	lines     uint64 // in text
	isFailing bool
	isTorn    bool      // the last line in the file is not whole
	reported  uint64    // of Counts.Dropped, in the log
	warned    time.Time // when that was
}

// followed is a journey of a pool.
type followed struct {
	pool string
	journey.Journey
}

// New returns a log that writes nothing until Use names a file. log gets its problems.
func New(log *slog.Logger, stdout io.Writer) *Log {
	l := &Log{
		stdout: stdout, log: log, closing: make(chan struct{}), closed: make(chan struct{}),
	}
	l.encoder = json.NewEncoder(&l.text)
	l.encoder.SetEscapeHTML(false)
	l.Use(Settings{})
	return l
}

// Use makes later lines follow the settings. It must not be called by two goroutines at once, nor after Close.
func (l *Log) Use(s Settings) {
	l.settings.Store(&s)
	if l.waiting.Load() == nil && s.isSomewhere() {
		// The queue takes 7 MiB, which a process without an access log does without.
		waiting := make(chan followed, maxWaiting)
		l.waiting.Store(&waiting)
		go l.run(waiting)
	}
}

// isSomewhere reports whether lines are written at all.
func (s *Settings) isSomewhere() bool { return s.Path != "" || s.ToStdout }

// Take takes the journeys of a pool that are to have lines. It never blocks.
func (l *Log) Take(pool string, b *journey.Batch) {
	l.Counts.Dropped.Add(uint64(b.LostLines))
	waiting := l.waiting.Load()
	if waiting == nil {
		return
	}
	for i := range b.Journeys {
		if !b.Journeys[i].For.Has(journey.ForLine) {
			continue
		}
		select {
		case *waiting <- followed{pool, b.Journeys[i]}:
		default:
			l.Counts.Dropped.Add(1)
		}
	}
}

// Open opens the file to append to it. It is opened for each batch of lines, so that it can be moved away. A named
// pipe that nobody reads is an error: Open waits for nobody.
func Open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, 0o600)
}

func (l *Log) run(waiting <-chan followed) {
	defer close(l.closed)
	for {
		select {
		case f := <-waiting:
			l.add(&f)
			l.addWaiting(waiting)
			l.write()
		case <-l.closing:
			l.addWaiting(waiting)
			l.write()
			return
		}
	}
}

// addWaiting adds the lines that wait, up to the size of a batch.
func (l *Log) addWaiting(waiting <-chan followed) {
	for l.text.Len() < maxBatch {
		select {
		case f := <-waiting:
			l.add(&f)
		default:
			return
		}
	}
}

func (l *Log) add(f *followed) {
	s := l.settings.Load()
	if !s.isSomewhere() {
		return // a thread has not heard yet that there is no log any more
	}
	if err := l.encoder.Encode(lineOf(f.pool, &f.Journey, s.HasKeys, s.HasHash)); err != nil {
		l.Counts.Failed.Add(1) // it never does: a line has texts and numbers only
		return
	}
	l.lines++
}

// write writes a batch.
func (l *Log) write() {
	if l.lines == 0 {
		return
	}
	s := l.settings.Load()
	err := l.append(s)
	if err != nil {
		l.Counts.Failed.Add(l.lines)
		if !l.isFailing {
			l.log.Error("cannot write the access log; lines until it works again are lost", "file", s.Path,
				"error", err, "remedy", "make room on the disk, or let keyway's user write the file")
		}
	} else {
		l.Counts.Written.Add(l.lines)
		if l.isFailing {
			l.log.Info("the access log is written again", "file", s.Path)
		}
	}
	l.isFailing, l.lines = err != nil, 0
	l.text.Reset()
	if l.isTorn {
		l.text.WriteByte('\n')
	}
	l.warnOfDropped()
}

// warnOfDropped logs that lines were dropped, once a minute.
func (l *Log) warnOfDropped() {
	dropped, now := l.Counts.Dropped.Load(), time.Now()
	if dropped == l.reported || now.Sub(l.warned) < time.Minute {
		return
	}
	l.log.Warn("lines of the access log were dropped, because too many waited for the disk",
		"lines", dropped-l.reported, "remedy", "raise access_log.one_in")
	l.reported, l.warned = dropped, now
}

func (l *Log) append(s *Settings) (err error) {
	if s.ToStdout {
		_, err = l.stdout.Write(l.text.Bytes())
		return err
	}
	file, err := Open(s.Path)
	if err != nil {
		return err
	}
	n, err := file.Write(l.text.Bytes())
	l.isTorn = err != nil && (n > 0 || l.isTorn)
	if problem := file.Close(); err == nil {
		err = problem
	}
	return err
}

// Close writes the lines that wait, for as long as that is allowed to take. Take must not be called any more.
func (l *Log) Close(within time.Duration) {
	close(l.closing)
	if l.waiting.Load() == nil {
		return
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-l.closed:
	case <-timer.C:
	}
}
