package systemd

import (
	"time"

	"golang.org/x/sys/unix"
)

// Monotonic returns the time of the clock that systemd measures with, CLOCK_MONOTONIC.
func Monotonic() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // the clock always exists
	return time.Duration(now.Nano())
}
