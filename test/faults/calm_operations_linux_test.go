package faults

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// operated is a keyway over two nodes. Others use the first one.
type operated struct {
	keyway      *redistest.Process
	file, admin string
	node, other *redistest.Node
	reloads     int
}

func startOperated(t *testing.T) *operated {
	t.Helper()
	o := &operated{node: redistest.Start(t), other: redistest.Start(t)}
	var adminYAML string
	o.admin, adminYAML = admin(t)
	addr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	o.file = redistest.WriteFile(t, "keyway.yml", "listen: "+addr+"\nshutdown: {drain: 0s}\n"+adminYAML+
		"layout: slots\nslots: {static: {a: 0-8191, b: 8192-16383}}\n"+
		redistest.NodesYAML([]*redistest.Node{o.node, o.other}))
	o.keyway = redistest.StartProcess(t, "serve", "-c", o.file)
	o.keyway.Addr = addr
	o.keyway.Answers()
	return o
}

// hang freezes the other node for a moment, while commands wait for it.
func (o *operated) hang(t *testing.T, addr string) {
	if addr == o.node.Addr {
		addr = o.other.Addr
	}
	const commands = 20
	c := redistest.Dial(t, addr)
	defer c.Close()
	o.other.Freeze()
	for range commands {
		c.Send("GET", keyOfSlot(9000))
	}
	c.Flush()
	time.Sleep(5 * disturbPause)
	o.other.Thaw()
	for range commands {
		if r, err := c.Receive(); err != nil || r.Kind == '-' {
			t.Errorf("the node that hung: %v %v", r, err)
		}
	}
}

// reload changes the configuration, and waits until it is in force.
func (o *operated) reload(t *testing.T, addr string) {
	if addr == o.node.Addr {
		doOnce(addr, "CONFIG", "SET", "maxclients", "9000")
		time.Sleep(disturbPause)
		return
	}
	text, err := os.ReadFile(o.file)
	if err != nil {
		t.Error(err)
		return
	}
	const denied = "commands: {deny: [keys]}\n"
	changed, was := strings.CutPrefix(string(text), denied)
	if !was {
		changed = denied + changed
	}
	if err := os.WriteFile(o.file, []byte(changed), 0o600); err != nil {
		t.Error(err)
		return
	}
	o.reloads++
	o.keyway.Cmd.Process.Signal(syscall.SIGHUP)
	redistest.Eventually(t, 20*time.Second, "the new configuration is in force", func() bool {
		return strings.Count(o.keyway.Stderr.String(), "configuration changed") >= o.reloads
	})
}

// flush removes all keys, of which the other node has many.
func (o *operated) flush(t *testing.T, addr string) {
	o.other.Do("DEBUG", "POPULATE", "20000", "flushed", "100")
	doOnce(addr, "FLUSHALL", "SYNC")
	time.Sleep(disturbPause)
	if addr != o.node.Addr && o.other.Do("DBSIZE").Int != 0 {
		t.Error("FLUSHALL has left keys")
	}
}

// dump asks for all that the admin address says about the process.
func (o *operated) dump(t *testing.T, addr string) {
	if addr == o.node.Addr {
		doOnce(addr, "INFO", "everything")
		time.Sleep(disturbPause)
		return
	}
	var wg sync.WaitGroup
	for _, path := range []string{"/metrics", "/overview", "/clients", "/slowlog"} {
		wg.Go(func() {
			r, err := http.Get("http://" + o.admin + path)
			if err == nil {
				_, err = io.Copy(io.Discard, r.Body)
				r.Body.Close()
			}
			if err != nil || r.StatusCode != http.StatusOK {
				t.Errorf("%s: %v", path, cmp.Or[any](err, r))
			}
		})
	}
	wg.Wait()
	time.Sleep(disturbPause)
}

// TestOthersStayCalmDuringOperations: the clients of one node notice hardly anything while another node hangs, the
// configuration changes, all keys are removed, or monitoring asks for everything.
func TestOthersStayCalmDuringOperations(t *testing.T) {
	redistest.OfAProcess(t)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	pair := [2]*operated{startOperated(t), startOperated(t)}
	for i, d := range []struct {
		name  string
		do    func(o *operated, t *testing.T, addr string)
		lossy func(key string) bool
	}{
		{"another node hangs", (*operated).hang, nil},
		{"reloads", (*operated).reload, nil},
		{"monitoring asks for everything", (*operated).dump, nil},
		{"FLUSHALL", (*operated).flush, func(string) bool { return true }},
	} {
		t.Run(d.name, func(t *testing.T) {
			nodes, keyways := 0, 0
			(&calm{
				lossy: d.lossy, replies: scale(300, 2000),
				name: fmt.Sprint("of", i), // each has keys of its own
				node: func() *redistest.Node {
					nodes++
					return pair[nodes-1].node
				},
				yaml: func(string) string { return "" },
				serve: func(string) *redistest.Process {
					keyways++
					return pair[keyways-1].keyway
				},
				disturb: func(addr string) { d.do(pair[0], t, addr) },
			}).assert(t)
		})
	}
}
