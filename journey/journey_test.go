package journey

import (
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSamplerChoosesEach: with one in one, every command is chosen, for each purpose by itself; with none, none is.
func TestSamplerChoosesEach(t *testing.T) {
	s := NewSampler(1, 0)
	for range 1000 {
		if !s.Passes() {
			t.Fatal("a sampler without settings has chosen a command")
		}
	}
	s.Configure(&Settings{Lines: Choice{OneIn: 1}})
	for i := range 1000 {
		if s.Passes() {
			t.Fatalf("command %d has passed", i)
		}
		if p := s.Choose(); p != ForLine {
			t.Fatalf("command %d was chosen for %d", i, p)
		}
	}
	s.Configure(&Settings{})
	for range 1000 {
		if !s.Passes() {
			t.Fatal("a command was chosen after the sampling had ended")
		}
	}
}

// TestSamplerMeetsItsShare: of many commands, so many are chosen for each purpose as the settings say, and their
// distances vary.
func TestSamplerMeetsItsShare(t *testing.T) {
	const n = 2_000_000
	s := NewSampler(7, 1)
	s.Configure(&Settings{Traces: Choice{OneIn: 100}, Lines: Choice{OneIn: 30}})
	var traces, lines float64
	last, gaps := 0, map[int]bool{}
	for i := range n {
		if s.Passes() {
			continue
		}
		p := s.Choose()
		if p == 0 {
			t.Fatal("a command was looked at for nothing")
		}
		if p.Has(ForTrace) {
			traces++
			gaps[i-last], last = true, i
		}
		if p.Has(ForLine) {
			lines++
		}
	}
	// A distance is uniform from 1 to 2k-1, so its deviation is about k/sqrt(3).
	for _, of := range []struct{ got, every float64 }{{traces, 100}, {lines, 30}} {
		want := n / of.every
		if sigma := math.Sqrt(want / 3); math.Abs(of.got-want) > 6*sigma {
			t.Errorf("%v commands are chosen of %d, one in %v", of.got, n, of.every)
		}
	}
	if len(gaps) < 150 {
		t.Errorf("only %d distances of 199 occur", len(gaps))
	}
}

// TestSamplerOwes: a chosen command that has to wait is chosen again when it begins, and the share stays.
func TestSamplerOwes(t *testing.T) {
	s := NewSampler(3, 0)
	s.Configure(&Settings{Traces: Choice{OneIn: 1000}})
	var at []int
	for i := 0; len(at) < 100; i++ {
		if s.Passes() {
			continue
		}
		chosen := s.Choose()
		for range 3 {
			s.Owe(chosen)
			if s.Passes() || s.Choose() != ForTrace {
				t.Fatal("a command that had to wait was forgotten")
			}
		}
		at = append(at, i)
	}
	if last := at[len(at)-1]; last < 60_000 || last > 140_000 { // 100,000, and a deviation of 5,800
		t.Errorf("the 100th command of one in 1000 was the %dth", last)
	}
}

// TestCodesAreCodes: the first word of an error is shown only if it is written as Redis writes such codes.
func TestCodesAreCodes(t *testing.T) {
	for reply, want := range map[string]string{
		"-ERR syntax error\r\n": "ERR", "-MOVED 1 a:1\r\n": "MOVED", "-NOSCRIPT\r\n": "NOSCRIPT", "-\r\n": "ERR",
		"":                    "ERR",
		"-secret of mine\r\n": "ERR", "-S3CRET x\r\n": "ERR", "-" + strings.Repeat("A", 40) + " x\r\n": "ERR",
		"-WRONG": "WRONG",
	} {
		if got := Code([]byte(reply)); got != want {
			t.Errorf("%q: %q, want %q", reply, got, want)
		}
	}
}

// TestKeysAreAsAskedFor: a journey has the text or the hash of a key, or neither, and never a long text.
func TestKeysAreAsAskedFor(t *testing.T) {
	key := []byte(strings.Repeat("k", 300))
	sum := sha256.Sum256(key)
	for _, by := range []Settings{{}, {Text: true}, {Hash: true}, {Text: true, Hash: true}} {
		var j Journey
		j.SetKey(key, &by)
		text, hash := "", [8]byte{}
		if by.Text {
			text = string(key[:maxKey])
		}
		if by.Hash {
			hash = [8]byte(sum[:8])
		}
		if got := string(j.Key.Text()); got != text || j.Key.Hash() != hash || j.Key.Len() != 300 {
			t.Errorf("%+v: %q, %x, %d", by, got, j.Key.Hash(), j.Key.Len())
		}
	}
}

// TestAtNodes: the time at nodes is no longer than the command, though it was at several nodes at once.
func TestAtNodes(t *testing.T) {
	j := Journey{Start: 10, End: 100}
	for _, a := range [][2]int64{{20, 50}, {20, 40}, {0, 45}, {30, 60}, {70, 80}} {
		j.Tried(Attempt{Node: "a", Written: a[0], Ended: a[1]})
	}
	if at := j.AtNodes(); at != 40+10 {
		t.Errorf("%d", at)
	}
}

// TestCallsAtANodeAreJoined: the calls of a split command that a node has answered are one attempt, and other attempts
// stay.
func TestCallsAtANodeAreJoined(t *testing.T) {
	j := Journey{Start: 10, End: 1000, IsSplit: true}
	j.Tried(Attempt{Node: "a", Written: 20, Ended: 25, Result: "MOVED"})
	for i := range int64(100) {
		j.Tried(Attempt{Node: "a", Written: 30 + i, Ended: 50 + i})
		j.Tried(Attempt{Node: "b", Written: 40, Ended: 60 + i})
	}
	want := []Attempt{{"a", "", 20, 25, "MOVED"}, {"a", "", 30, 149, ""}, {"b", "", 40, 159, ""}}
	if got := j.Attempts(); !slices.Equal(got, want) || j.Unkept() != 0 {
		t.Errorf("%+v, %d left out", got, j.Unkept())
	}
}

// TestAttemptsAreBounded: of many attempts, the first ones and the last are kept, and the others counted.
func TestAttemptsAreBounded(t *testing.T) {
	j := Journey{Start: 10, End: 1000}
	if _, ok := j.Queued(); ok {
		t.Error("a command that was not sent has waited to be sent")
	}
	for i := range int64(20) {
		j.Tried(Attempt{Node: fmt.Sprint(i), Written: 100 + 10*i, Ended: 105 + 10*i, Result: "TRYAGAIN"})
		j.Tried(Attempt{Node: fmt.Sprint(i), Written: 100 + 10*i, Ended: 105 + 10*i, Result: "TRYAGAIN"}) // the same
	}
	all := j.Attempts()
	if len(all) != maxAttempts || all[6].Node != "6" || all[7].Node != "19" || j.Unkept() != 12 {
		t.Errorf("%d are kept, %d are not: %+v", len(all), j.Unkept(), all)
	}
	if queued, ok := j.Queued(); queued != 90 || !ok || j.AtNodes() != 8*5 || j.Duration() != 990*time.Nanosecond {
		t.Errorf("queued %d, at nodes %d, in all %d", queued, j.AtNodes(), j.Duration())
	}
}
