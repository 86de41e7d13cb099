package redistest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// The ports for servers that tests start are below those that the system gives to connections, and to who listens on
// port 0: nobody else takes one before its server does.
const (
	firstPort  = 10_000
	inBlock    = 100
	portBlocks = 220
)

// ports are those that this process may use: whole blocks, each with a locked file.
var ports struct {
	sync.Mutex
	next, end int
	mine      []int      // the first ports of the blocks, those that were used last at the end
	locks     []*os.File // open until the process ends
}

// FreePort returns an unused port of 127.0.0.1. Another process of tests does not get it, and this one not before it
// has used all others.
func FreePort(t testing.TB) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for range portBlocks {
		for ports.next < ports.end {
			port := ports.next
			ports.next++
			if ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
				ln.Close()
				return port
			}
		}
		nextBlock(t)
	}
	t.Fatal("no free port")
	return 0
}

// nextBlock takes a block that no process has, or the block of its own that it has not used for longest. ports must
// be locked.
func nextBlock(t testing.TB) {
	t.Helper()
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("keyway-test-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, block := range rand.Perm(portBlocks) {
		file, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(block)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			file.Close() // another process has it, or this one
			continue
		}
		ports.locks = append(ports.locks, file)
		useBlock(firstPort + block*inBlock)
		return
	}
	if len(ports.mine) == 0 {
		t.Fatal("other processes of tests have all ports")
	}
	oldest := ports.mine[0]
	ports.mine = ports.mine[1:]
	useBlock(oldest)
}

// useBlock makes FreePort return the ports of a block. ports must be locked.
func useBlock(first int) {
	ports.mine = append(ports.mine, first)
	ports.next, ports.end = first, first+inBlock
}
