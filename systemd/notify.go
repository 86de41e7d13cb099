package systemd

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Notifier sends messages to systemd; see sd_notify(3). A nil Notifier sends nothing. Its methods
// may be called from any goroutine. They do not fail: systemd restarts a service that it does not
// hear from.
type Notifier struct {
	conn     *net.UnixConn
	addr     string
	watchdog time.Duration // 0: systemd does not watch
	isSilent atomic.Bool
}

// New returns a notifier for the process with that ID, or nil if the environment names no socket
// of systemd. env is as os.LookupEnv.
func New(env func(string) (string, bool), pid int) (*Notifier, error) {
	addr, _ := env("NOTIFY_SOCKET")
	if addr == "" {
		return nil, nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("connecting to systemd, NOTIFY_SOCKET=%s: %w", addr, err)
	}
	return &Notifier{conn: conn, addr: addr, watchdog: watchdogOf(env, pid)}, nil
}

// watchdogOf returns the time after which systemd ends a process that it does not hear from. It
// returns 0 if systemd does not watch this process.
func watchdogOf(env func(string) (string, bool), pid int) time.Duration {
	if of, ok := env("WATCHDOG_PID"); ok && of != strconv.Itoa(pid) {
		return 0
	}
	text, _ := env("WATCHDOG_USEC")
	usec, err := strconv.ParseInt(text, 10, 64)
	if err != nil || usec <= 0 || usec > int64(24*time.Hour/time.Microsecond) {
		return 0
	}
	return time.Duration(usec) * time.Microsecond
}

// Ready tells systemd that keyway serves, or that a reload has ended. status is for people.
func (n *Notifier) Ready(status string) { n.send("READY=1", statusLine(status)) }

// Reloading tells systemd that a reload begins. Ready ends it. now is the time of systemd's
// clock; see Monotonic.
func (n *Notifier) Reloading(now time.Duration) {
	n.send("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Microseconds()))
}

// Stopping tells systemd that keyway stops, and how long that takes at most. systemd waits that
// long, even if TimeoutStopSec is shorter.
func (n *Notifier) Stopping(status string, atMost time.Duration) {
	n.send("STOPPING=1", statusLine(status), fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", atMost.Microseconds()))
}

// Replaced tells systemd that another process is the service's main process from now on, whose time
// to say that it is alive begins now. After that n sends nothing: systemd hears the main process only.
func (n *Notifier) Replaced(pid int) {
	n.send(fmt.Sprintf("MAINPID=%d", pid), "WATCHDOG=1")
	if n != nil {
		n.isSilent.Store(true)
	}
}

// Environment returns the variables by which a process that replaces this one finds systemd.
func (n *Notifier) Environment() []string {
	if n == nil {
		return nil
	}
	env := []string{"NOTIFY_SOCKET=" + n.addr}
	if n.watchdog > 0 {
		env = append(env, fmt.Sprintf("WATCHDOG_USEC=%d", n.watchdog.Microseconds()))
	}
	return env
}

// statusLine returns the assignment of a status, which must be one line.
func statusLine(status string) string { return "STATUS=" + strings.ReplaceAll(status, "\n", " ") }

func (n *Notifier) send(assignments ...string) {
	if n == nil || n.isSilent.Load() {
		return
	}
	_, _ = n.conn.Write([]byte(strings.Join(assignments, "\n") + "\n"))
}

// Watch calls alive in every half of the time after which systemd ends the process, and tells
// systemd each time that alive returns nil. alive gets a context that ends before its next call.
// If alive keeps failing, systemd hears nothing, and restarts keyway. failed is called with each
// error. Watch returns when ctx ends, or at once if systemd does not watch.
func (n *Notifier) Watch(ctx context.Context, alive func(context.Context) error, failed func(error)) {
	if n == nil || n.watchdog == 0 {
		return
	}
	interval := n.watchdog / 2
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if err := within(ctx, interval, alive); err == nil {
			n.send("WATCHDOG=1")
		} else if ctx.Err() == nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func within(ctx context.Context, atMost time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	return f(ctx)
}

// FromEnvironment is New for this process. It also removes what it has read from the
// environment, so that processes that keyway starts do not speak for it.
func FromEnvironment() (*Notifier, error) {
	n, err := New(os.LookupEnv, os.Getpid())
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"} {
		_ = os.Unsetenv(name) // fails for invalid names only
	}
	return n, err
}
