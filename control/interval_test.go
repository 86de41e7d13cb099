package control

import (
	"testing"
	"time"
)

// TestInterval: few ask as often as they like, many together no more often than the server should be asked.
func TestInterval(t *testing.T) {
	for keyways, want := range map[int]time.Duration{
		0: time.Second, 1: time.Second, 50: time.Second, 51: 1020 * time.Millisecond, 1000: 20 * time.Second,
	} {
		if is := Interval(time.Second, keyways, 50); is != want {
			t.Errorf("%d keyways: %s, want %s", keyways, is, want)
		}
	}
}
