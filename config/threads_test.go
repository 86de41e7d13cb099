package config

import "testing"

// TestThreadsAuto: `threads: auto` is as many event loops as there are processors. To a reload it is
// one value.
func TestThreadsAuto(t *testing.T) {
	auto, err := Parse("f.yml", []byte("threads: auto\n"+ringOfTwo), nil)
	if err != nil {
		t.Fatal(err)
	}
	for processors, want := range map[int]int{1: 1, 3: 3, 1000: 256} {
		if n := auto.Threads.Count(processors); n != want {
			t.Errorf("%d threads, with %d processors", n, processors)
		}
	}
	again, err := Parse("f.yml", []byte("threads: auto\n"+ringOfTwo), nil)
	if err != nil {
		t.Fatal(err)
	}
	if changes := auto.Changes(again); len(changes) != 0 {
		t.Errorf("changes: %v", changes)
	}
	four, err := Parse("f.yml", []byte("threads: 4\n"+ringOfTwo), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := four.Threads.Count(2); n != 4 {
		t.Errorf("threads: 4 makes %d", n)
	}
	if changes := auto.Changes(four); len(changes) != 1 || changes[0].String() != "threads: auto -> 4" {
		t.Errorf("changes: %v", changes)
	}
	_, err = Parse("f.yml", []byte("threads: -1\n"+ringOfTwo), nil)
	if want := "f.yml:1:10: threads: out of range; write a whole number from 1 to 256, or auto"; err == nil ||
		err.Error() != want {
		t.Errorf("threads: -1: %v, want %s", err, want)
	}
}
