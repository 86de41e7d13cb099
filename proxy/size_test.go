package proxy

import (
	"testing"
	"unsafe"
)

// TestIdleSessionTakesLittle bounds what an idle client costs the core: ten thousand of
// them are not to be felt.
func TestIdleSessionTakesLittle(t *testing.T) {
	if n := unsafe.Sizeof(Session{}); n > 256 {
		t.Errorf("a session takes %d bytes", n)
	}
	r := newRig(t, Options{})
	if r.holdsBuffer() {
		t.Error("an idle client holds a buffer")
	}
	r.feed(cmd("SET", onA, "v"))
	r.sent(0)
	r.node(0, "+OK\r\n")
	r.got()
	if r.holdsBuffer() {
		t.Error("a client that is idle again holds a buffer")
	}
}
