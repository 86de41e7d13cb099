package transaction

import (
	"slices"
	"testing"
)

const abort = "-EXECABORT Transaction discarded because of previous errors.\r\n"

func TestCauseIsTheFirstRefusal(t *testing.T) {
	var b Block
	if got := string(b.Cause([]byte(abort))); got != abort {
		t.Errorf("without a refusal: %q", got)
	}
	moved := []byte("-MOVED 1 a:1\r\n")
	b.Refused(moved)
	copy(moved, "-other") // the reply lies in the connection's buffer
	b.Refused([]byte("-ERR second\r\n"))
	if got := string(b.Cause([]byte("-LOADING Redis\r\n"))); got != "-LOADING Redis\r\n" {
		t.Errorf("EXEC itself was refused: %q", got)
	}
	b.Refused([]byte("-MOVED 1 a:1\r\n"))
	b.Refused([]byte("-ERR second\r\n"))
	if got := string(b.Cause([]byte(abort))); got != "-MOVED 1 a:1\r\n" {
		t.Errorf("a command was refused: %q", got)
	}
	if got := string(b.Cause([]byte(abort))); got != abort {
		t.Errorf("the block was sent again: %q", got)
	}
}

func TestAborted(t *testing.T) {
	loading := "-LOADING Redis\r\n"
	if got := string(Aborted([]byte(loading), []byte(loading))); got != loading {
		t.Errorf("EXEC itself was refused: %q", got)
	}
	want := "-EXECABORT Transaction discarded because of: OOM command not allowed\r\n"
	if got := string(Aborted([]byte(abort), []byte("-OOM command not allowed\r\n"))); got != want {
		t.Errorf("got %q", got)
	}
}

func TestWithPrefix(t *testing.T) {
	var b Block
	for _, frame := range []string{"MULTI", "SET", "EXEC"} {
		b.Add([]byte(frame))
	}
	for prefix, want := range map[string]struct {
		frames string
		ends   []int
	}{"": {"MULTISETEXEC", []int{5, 8, 12}}, "ASKING": {"ASKINGMULTISETEXEC", []int{6, 11, 14, 18}}} {
		frames, ends := b.WithPrefix([]byte(prefix))
		if string(frames) != want.frames || !slices.Equal(ends, want.ends) {
			t.Errorf("behind %q: %q %v", prefix, frames, ends)
		}
	}
	if string(b.Frames) != "MULTISETEXEC" || b.MayWrite() {
		t.Errorf("the block is now %q", b.Frames)
	}
	if b.Functions = []string{"f"}; !b.MayWrite() {
		t.Error("a function may write")
	}
}
