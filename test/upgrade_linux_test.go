package test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// upgraded is a keyway under load while it is upgraded.
type upgraded struct {
	*redistest.Successive
	t    *testing.T
	stop atomic.Bool
	wg   sync.WaitGroup
}

func newUpgraded(t *testing.T, yaml string) *upgraded {
	return &upgraded{Successive: redistest.ServeSuccessive(t, yaml), t: t}
}

// each runs a client that calls do with 1, 2, ... until the upgrades are over. It closes ended after that.
func (u *upgraded) each(do func(c *redistest.Client, n int), first ...string) (ended <-chan struct{}) {
	c, end := redistest.Dial(u.t, u.Addr), make(chan struct{})
	if len(first) > 0 {
		c.MustDo(first...)
	}
	u.wg.Go(func() {
		defer close(end)
		for n := 1; !u.stop.Load() && !u.t.Failed(); n++ {
			do(c, n)
		}
	})
	return end
}

// upgrades replaces the process several times, and then ends the clients.
func (u *upgraded) upgrades(times int) {
	u.t.Helper()
	for range times {
		time.Sleep(100 * time.Millisecond) // the clients go on
		if printed, err := u.Upgrade(); err != nil {
			u.t.Errorf("%v: %s", err, printed)
		}
	}
	u.stop.Store(true)
	u.wg.Wait()
}

// TestUpgradeUnnoticed: clients of all kinds go on while one process replaces the other: no
// command is lost or executed twice, no reply is wrong, and no connection ends.
func TestUpgradeUnnoticed(t *testing.T) {
	t.Parallel()
	for _, threads := range []string{"1", "2"} {
		t.Run("threads="+threads, func(t *testing.T) {
			t.Parallel()
			yaml := redistest.Layouts(redistest.Three(t))["ring"] + "threads: " + threads + "\n"
			u := newUpgraded(t, yaml)
			for i := range 4 {
				key := fmt.Sprintf("counter:%d", i)
				u.each(func(c *redistest.Client, n int) { c.Expect(strconv.Itoa(n), "INCR", key) })
			}
			u.each(func(c *redistest.Client, n int) { // a pipeline
				for range 50 {
					c.Send("RPUSH", "list", "x")
				}
				c.Flush()
				for i := range 50 {
					if got, err := c.Receive(); err != nil || got.Int != int64(50*(n-1)+i+1) {
						t.Errorf("RPUSH %d of pipeline %d: %s %v", i, n, got, err)
					}
				}
			})
			u.each(func(c *redistest.Client, n int) {
				c.Expect("OK", "MULTI")
				c.Expect("QUEUED", "INCR", "tx")
				c.Expect(fmt.Sprintf("[%d]", n), "EXEC")
			}, "HELLO", "3")
			u.each(func(c *redistest.Client, n int) {
				c.Expect("OK", "SET", "watched", strconv.Itoa(n))
				c.Expect("OK", "WATCH", "watched")
				c.Expect("OK", "MULTI")
				c.Expect("QUEUED", "GET", "watched")
				c.Expect(fmt.Sprintf("[%d]", n), "EXEC")
			})
			popped := u.each(func(c *redistest.Client, n int) {
				got := c.Do("BLPOP", "queue", "2")
				for got.Null && !u.stop.Load() {
					got = c.Do("BLPOP", "queue", "2")
				}
				if want := fmt.Sprintf("[queue %d]", n); got.String() != want && !got.Null {
					t.Errorf("BLPOP: %s instead of %s", got, want)
				}
			})
			u.each(func(c *redistest.Client, n int) {
				c.Expect("1", "RPUSH", "queue", strconv.Itoa(n))
				redistest.Eventually(t, 20*time.Second, "the element is popped", func() bool {
					select {
					case <-popped: // the last element stays
						return true
					default:
						return u.t.Failed() || c.Do("EXISTS", "queue").Int == 0
					}
				})
			})
			u.upgrades(4)
		})
	}
}

// TestUpgradeKeepsSubscribers: subscribers get each message once and in order, on every layout.
func TestUpgradeKeepsSubscribers(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	layouts := redistest.Layouts(redistest.Three(t))
	for name, yaml := range map[string]string{
		"ring": layouts["ring"], "cluster": redistest.NewCluster(t, 3, 0).SeedsYAML(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpgraded(t, yaml+"threads: 2\n")
			sent := map[string]*atomic.Int64{"news": {}, "shard": {}}
			var subscribers sync.WaitGroup
			for i := range 8 {
				subscribers.Go(u.subscriber(sent, i))
			}
			for channel, publish := range map[string]string{"news": "PUBLISH", "shard": "SPUBLISH"} {
				want := map[string]int64{"news": 6, "shard": 2}[channel]
				u.each(func(c *redistest.Client, n int) {
					if got := c.Do(publish, channel, strconv.Itoa(n)); got.Int != want {
						t.Errorf("%s: %s", publish, got)
					}
					sent[channel].Store(int64(n))
				})
			}
			u.upgrades(4)
			last := redistest.Dial(t, u.Addr)
			last.Expect("6", "PUBLISH", "news", "0")
			last.Expect("2", "SPUBLISH", "shard", "0")
			subscribers.Wait()
		})
	}
}

// subscriber returns a function that checks the messages that one client gets, until it has all
// that were sent when the upgrades were over.
func (u *upgraded) subscriber(sent map[string]*atomic.Int64, i int) func() {
	c := redistest.Dial(u.t, u.Addr)
	c.MustDo("HELLO", strconv.Itoa(2+i/4))
	channel, subscribe := "news", []string{"SUBSCRIBE", "news"}
	switch i % 4 {
	case 1:
		subscribe = []string{"PSUBSCRIBE", "n?ws"}
	case 2:
		channel, subscribe = "shard", []string{"SSUBSCRIBE", "shard"}
	case 3:
		subscribe = []string{"SUBSCRIBE", "other\xff\x00", "news"}
	}
	c.Send(subscribe...)
	c.Flush()
	for range len(subscribe) - 1 {
		if _, err := c.Receive(); err != nil {
			u.t.Fatal(err)
		}
	}
	return func() {
		for last := int64(0); !u.t.Failed(); {
			m, err := c.Receive()
			if err != nil {
				u.t.Errorf("%q after message %d: %v", subscribe, last, err)
				return
			}
			n, _ := strconv.ParseInt(m.Elems[len(m.Elems)-1].Text, 10, 64)
			if n == 0 { // the end
				if last != sent[channel].Load() {
					u.t.Errorf("%q gets %d of %d messages", subscribe, last, sent[channel].Load())
				}
				return
			}
			if n != last+1 {
				u.t.Errorf("%q gets message %d after %d", subscribe, n, last)
			}
			last = n
		}
	}
}

// TestUpgradeKeepsWhatClientsHaveSet: everything that a client has told keyway is still known.
func TestUpgradeKeepsWhatClientsHaveSet(t *testing.T) {
	t.Parallel()
	u := newUpgraded(t, "layout: ring\nring: {hash: fnv1a_64}\nnodes: [{name: a, addr: "+redistest.Start(t).Addr+"}]\n"+
		"users: [{name: app, acl: 'on >secret ~* &* +@all', database: 2}]\n")
	c := redistest.Dial(t, u.Addr)
	c.MustDo("HELLO", "3", "AUTH", "app", "secret", "SETNAME", "worker-7")
	c.Expect("OK", "CLIENT", "SETINFO", "LIB-NAME", "test")
	c.Expect("OK", "SELECT", "3")
	c.Expect("OK", "SET", "cached", "1")
	c.Expect("OK", "CLIENT", "TRACKING", "ON")
	c.Expect("1", "GET", "cached")
	id := c.MustDo("CLIENT", "ID").String()
	half := redistest.Dial(t, u.Addr)
	half.Raw("*2\r\n$4\r\nECHO\r\n$5\r\nhal")
	half.Flush()
	silent := redistest.Dial(t, u.Addr)
	silent.Send("CLIENT", "REPLY", "OFF")
	silent.Flush()
	if printed, err := u.Upgrade(); err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
	if m, err := c.Receive(); err != nil || m.String() != "[invalidate (nil)]" {
		t.Errorf("a client that caches is told %s, %v", m, err)
	}
	c.Expect(id, "CLIENT", "ID")
	info := c.MustDo("CLIENT", "INFO").Text
	for _, want := range []string{" name=worker-7 ", " db=3 ", " user=app ", " resp=3 ", " lib-name=test "} {
		if !strings.Contains(info, want) {
			t.Errorf("%q is not in %s", want, info)
		}
	}
	c.Expect("1", "GET", "cached")
	redistest.Dial(t, u.Addr).MustDo("HELLO", "3")
	other := redistest.Dial(t, u.Addr)
	other.Expect("OK", "SELECT", "3")
	other.Expect("OK", "SET", "cached", "2")
	if m, err := c.Receive(); err != nil || m.String() != "[invalidate [cached]]" {
		t.Errorf("a client that caches is told %s, %v", m, err)
	}
	half.Raw("fs\r\n")
	half.Flush()
	if m, err := half.Receive(); err != nil || m.Text != "halfs" {
		t.Errorf("the client that was in the middle of a command gets %s, %v", m, err)
	}
	silent.Send("PING", "unheard")
	silent.Send("CLIENT", "REPLY", "ON")
	silent.Flush()
	if m, err := silent.Receive(); err != nil || m.Text != "OK" {
		t.Errorf("the silent client gets %s, %v", m, err)
	}
	if n := other.MustDo("CLIENT", "ID").Int; n <= c.MustDo("CLIENT", "ID").Int {
		t.Errorf("a later client has id %d", n)
	}
}

// TestUpgradeThatFails: if the new process cannot serve, the one that is there goes on.
func TestUpgradeThatFails(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	u := newUpgraded(t, redistest.Layouts(redistest.Three(t))["ring"])
	c := redistest.Dial(t, u.Addr)
	c.MustDo("SET", "a", "1")
	config, err := os.ReadFile(u.File)
	if err != nil {
		t.Fatal(err)
	}
	program := u.Binary + ".good"
	redistest.CopyProgram(t, u.Binary, program)
	for what, spoil := range map[string]func(){
		"a program that ends": func() { redistest.ReplaceProgram(t, u.Binary, "#!/bin/sh\nexit 3\n") },
		"no program":          func() { redistest.ReplaceProgram(t, u.Binary, "this is none") },
		"a bad configuration": func() { replaceFile(t, u.File, "listen: nowhere\n") },
		"other threads":       func() { replaceFile(t, u.File, string(config)+"threads: 3\n") },
	} {
		spoil()
		printed, err := u.Upgrade()
		if err == nil || !strings.HasPrefix(printed, "keyway: not upgraded: ") {
			t.Errorf("%s: %v: %s", what, err, printed)
		}
		redistest.CopyProgram(t, program, u.Binary)
		replaceFile(t, u.File, string(config))
		c.Expect("1", "GET", "a")
		redistest.Dial(t, u.Addr).Expect("1", "GET", "a")
	}
	if printed, err := u.Upgrade(); err != nil {
		t.Errorf("%v: %s", err, printed)
	}
	c.Expect("1", "GET", "a")
}

// replaceFile puts another file in a file's place.
func replaceFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// TestUpgradeUnderRedisBenchmark: redis-benchmark runs through upgrades without an error.
func TestUpgradeUnderRedisBenchmark(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	u := newUpgraded(t, redistest.Layouts(redistest.Three(t))["ring"])
	host, port, _ := strings.Cut(u.Addr, ":")
	out, ended := new(strings.Builder), make(chan error, 1)
	cmd := exec.Command("redis-benchmark", "-h", host, "-p", port, "-t", "set,get,incr,lpush", "-n", "200000",
		"-c", "20", "-P", "4", "-q")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; make tools installs it", err)
	}
	go func() { ended <- cmd.Wait() }()
	upgrades := 0
	for running := true; running; {
		select {
		case err := <-ended:
			running = false
			if err != nil {
				t.Error(err)
			}
		default:
			if printed, err := u.Upgrade(); err != nil {
				t.Fatalf("%v: %s", err, printed)
			}
			upgrades++
		}
	}
	if text := out.String(); upgrades < 2 || strings.Contains(strings.ToLower(text), "error") ||
		strings.Count(text, "requests per second") != 4 {
		t.Errorf("after %d upgrades:\n%s", upgrades, text)
	}
	t.Logf("%d upgrades", upgrades)
}
