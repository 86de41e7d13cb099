package mover

import (
	"testing"
	"time"
)

// TestFewLookOften: the processes that are next in line look every second. However many there are, all together look
// some thirty times a second.
func TestFewLookOften(t *testing.T) {
	for _, processes := range []int{1, 8, 50, 1000, 10_000} {
		perSecond := 0.
		var line []Process
		for id := range processes {
			line = append(line, Process{ID: int64(id)})
		}
		for id := range processes {
			m := mover{seen: View{Processes: line, Own: Process{ID: int64(id)}}}
			interval := m.interval()
			if id < nextInLine && interval != lookInterval || id >= 2*nextInLine && interval <= lookInterval {
				t.Errorf("process %d of %d looks every %s", id, processes, interval)
			}
			perSecond += float64(time.Second) / float64(interval)
		}
		if perSecond > 50 {
			t.Errorf("%d processes look %.0f times a second", processes, perSecond)
		}
	}
	if m := (mover{}); m.interval() != lookInterval {
		t.Error("a process that is in no line does not look every second")
	}
}
