//go:build !linux

package systemd

import "time"

// Monotonic returns 0: there is no systemd.
func Monotonic() time.Duration { return 0 }
