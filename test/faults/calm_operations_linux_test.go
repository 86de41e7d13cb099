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

// startOperated starts them. The link between keyway and the other node transmits so many bytes a second; 0: any.
func startOperated(t *testing.T, rate int) *operated {
	t.Helper()
	o := &operated{node: redistest.Start(t), other: redistest.Start(t)}
	other := o.other.Addr
	if rate > 0 {
		other = throttled(t, other, rate)
	}
	var adminYAML string
	o.admin, adminYAML = admin(t)
	addr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	o.file = redistest.WriteFile(t, "keyway.yml", "listen: "+addr+"\nshutdown: {drain: 0s}\n"+adminYAML+
		"limits: {client_output: 512mb}\nlayout: slots\nslots: {static: {a: 0-8191, b: 8192-16383}}\n"+
		"nodes: [{name: a, addr: \""+o.node.Addr+"\"}, {name: b, addr: \""+other+"\"}]\n")
	o.keyway = redistest.StartProcess(t, "serve", "-c", o.file)
	o.keyway.Addr = addr
	o.keyway.Answers()
	return o
}

// throttled returns the address of a link to another one that transmits so many bytes a second.
func throttled(t *testing.T, addr string, rate int) string {
	return redistest.NewFaults(t, addr, func(int) redistest.Plan { return redistest.Plan{Rate: rate} }).Addr
}

// operatedCalm compares the clients of the first node of two such keyways, of which do disturbs the first.
func operatedCalm(pair [2]*operated, do func(o *operated, addr string)) *calm {
	nodes, keyways := 0, 0
	return &calm{
		node: func() *redistest.Node {
			nodes++
			return pair[nodes-1].node
		},
		yaml: func(string) string { return "" },
		serve: func(string) *redistest.Process {
			keyways++
			return pair[keyways-1].keyway
		},
		disturb: func(addr string) { do(pair[0], addr) },
	}
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
	pair := [2]*operated{startOperated(t, 0), startOperated(t, 0)}
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
			c := operatedCalm(pair, func(o *operated, addr string) { d.do(o, t, addr) })
			c.lossy, c.replies = d.lossy, scale(300, 2000)
			c.name = fmt.Sprint("of", i) // each has keys of its own
			c.assert(t)
		})
	}
}

// TestOthersStayCalmDuringA256MBValue: so they do while a value of 256 MB is under way to the other node, or from it to
// a client, for as long as the slow link takes.
func TestOthersStayCalmDuringA256MBValue(t *testing.T) {
	redistest.OfAProcess(t)
	rate := scale(3e9, 400e6) / 8
	value := strings.Repeat("0123456789abcdef", 256<<20/16)
	large := keyOfSlot(9000)
	for name, transfer := range map[string]struct {
		toNode, toClient int // bytes a second
		do               func(c *redistest.Client)
	}{
		"write over a slow link to the node": {rate, 0, func(c *redistest.Client) {
			c.Expect("OK", "SET", large, value)
		}},
		"read over a slow link to the client": {0, rate, func(c *redistest.Client) {
			if r := c.Do("GET", large); r.Text != value {
				t.Errorf("GET: %d bytes: %.100s", len(r.Text), r)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			pair := [2]*operated{startOperated(t, transfer.toNode), startOperated(t, transfer.toNode)}
			// keyway learns that it is large.
			redistest.Dial(t, pair[0].keyway.Addr).Expect("OK", "SET", large, value[:1<<20])
			if transfer.toClient > 0 { // it is read
				pair[0].other.Do("SET", large, value)
			}
			clients := map[string]*redistest.Client{}
			c := operatedCalm(pair, func(o *operated, addr string) {
				if clients[addr] == nil {
					link := addr
					if addr == o.node.Addr {
						link = o.other.Addr
					}
					if transfer.toClient > 0 {
						link = throttled(t, link, transfer.toClient)
					}
					clients[addr] = redistest.Dial(t, link)
				}
				transfer.do(clients[addr])
			})
			c.whole, c.windows, c.tries = true, rareWindows, rareTries
			c.assert(t)
		})
	}
}
