package move_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/keyway-proxy/keyway/move"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestAddressThatLeadsToTheSource: while keys move, the destination's address begins to lead
// to the source, as after a failover of a virtual address. No key moves onto itself, which
// would remove it.
func TestAddressThatLeadsToTheSource(t *testing.T) {
	t.Parallel()
	a, b := redistest.Start(t), redistest.Start(t)
	a.Do("SET", "k", "v")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	var leadsTo atomic.Value
	leadsTo.Store(b.Addr)
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", leadsTo.Load().(string))
			if err != nil {
				near.Close()
				continue
			}
			go io.Copy(far, near)
			go io.Copy(near, far)
		}
	}()
	var ends [2]*move.Node
	for i, addr := range []string{a.Addr, ln.Addr().String()} {
		if ends[i], err = move.Open(t.Context(), move.Options{Name: string(rune('a' + i)), Addr: addr}); err != nil {
			t.Fatal(err)
		}
		defer ends[i].Close()
	}
	leadsTo.Store(a.Addr)
	if l, err := move.Connect(t.Context(), ends[0], ends[1], 0); err == nil {
		_, _ = l.Move(t.Context(), []string{"k"})
		t.Error("two addresses of one server were linked")
	} else if !strings.Contains(err.Error(), "are the same server") {
		t.Error(err)
	}
	if v := a.Do("GET", "k").Text; v != "v" {
		t.Errorf("the key is %q", v)
	}
}

// TestScanOverOneConnection: a scan whose connection ends between two pages fails. The next page could
// come from another process, where the cursor means other keys, and a node would count as empty
// that is not.
func TestScanOverOneConnection(t *testing.T) {
	t.Parallel()
	a := redistest.Start(t)
	for i := range 1000 {
		a.Do("SET", fmt.Sprint("k", i), "v")
	}
	n, err := move.Open(t.Context(), move.Options{Name: "a", Addr: a.Addr})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	pages := 0
	err = n.Scan(t.Context(), 0, func([]string) error {
		if pages++; pages == 1 {
			a.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		}
		return nil
	})
	if err == nil || pages != 1 {
		t.Errorf("the scan ended after %d pages with %v", pages, err)
	}
}
