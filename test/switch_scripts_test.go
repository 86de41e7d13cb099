package test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// takesJob is a script of a queue. It makes the name of the job's key by itself, as the scripts of asynq
// and BullMQ do.
const takesJob = `local id = redis.call('RPOPLPUSH', KEYS[1], KEYS[2])
if not id then return nil end
redis.call('HSET', ARGV[1] .. id, 'state', 'active')
return redis.call('HGET', ARGV[1] .. id, 'msg')`

// TestScriptsWhileKeysMove: a script also finds the keys that it uses without declaring them, if they
// have the hash tag of those that it declares. Several keyways run it at once.
func TestScriptsWhileKeysMove(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	x := newExchange(t)
	x.put("other:", 5000) // a pass over a node's keys takes several replies
	function := "#!lua name=queue\nredis.register_function('take', function(KEYS, ARGV) " + takesJob + " end)"
	for _, n := range x.nodes {
		n.Do("FUNCTION", "LOAD", function)
	}
	keyways := []*redistest.Process{x.keyway(), x.keyway()}
	sha := redistest.Dial(t, keyways[0].Addr).MustDo("SCRIPT", "LOAD", takesJob).Text
	redistest.Dial(t, keyways[1].Addr).MustDo("SCRIPT", "LOAD", takesJob)
	const jobs = 40
	for name, take := range map[string][]string{
		"EVAL": {"EVAL", takesJob}, "EVALSHA": {"EVALSHA", sha}, "FCALL": {"FCALL", "take"}, "[*?]": {"EVAL", takesJob},
		"EXEC": {"EVALSHA", sha},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tag := "{" + name + "}"
			node := redistest.Dial(t, x.former(tag).Addr)
			for i := range jobs {
				node.MustDo("HSET", fmt.Sprint(tag, "job:", i), "msg", fmt.Sprint("message ", i))
				node.MustDo("LPUSH", tag+"pending", fmt.Sprint(i))
			}
			take = append(append([]string(nil), take...), "2", tag+"pending", tag+"active", tag+"job:")
			taken, each := make([]map[string]int, 6), sync.WaitGroup{}
			for i := range taken {
				c := redistest.Dial(t, keyways[i%2].Addr)
				taken[i] = map[string]int{}
				each.Go(func() { takeAll(c, take, name == "EXEC", taken[i]) })
			}
			each.Wait()
			all := map[string]int{}
			for _, by := range taken {
				for message, n := range by {
					all[message] += n
				}
			}
			for i := range jobs {
				if n := all[fmt.Sprint("message ", i)]; n != 1 || len(all) != jobs {
					t.Errorf("job %d is taken %d times; %d are taken", i, n, len(all))
				}
			}
		})
	}
}

// takeAll takes jobs until there are none.
func takeAll(c *redistest.Client, take []string, inTransaction bool, taken map[string]int) {
	for {
		var message string
		if inTransaction {
			c.MustDo("MULTI")
			c.MustDo(take...)
			message = c.MustDo("EXEC").Elems[0].String()
		} else {
			message = c.MustDo(take...).String()
		}
		if message == "(nil)" {
			return
		}
		taken[message]++
	}
}

// TestScriptsOfDeclaredKeysWhileKeysMove: for a script that uses only its KEYS, keyway does not look at the
// other keys of a node.
func TestScriptsOfDeclaredKeysWhileKeysMove(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	k := x.keyway()
	scans := func() (n int) {
		for _, node := range x.nodes {
			n += strings.Count(node.Do("INFO", "commandstats").Text, "cmdstat_scan:")
		}
		return n
	}
	c := redistest.Dial(t, k.Addr)
	const unlock = "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call(ARGV[2], KEYS[2], ARGV[1]); " +
		"return redis.call('del', KEYS[1]) else return 0 end"
	for _, n := range x.nodes {
		n.Do("CONFIG", "RESETSTAT")
	}
	for i := range 5 {
		key := fmt.Sprintf("lock:{%d}", i)
		x.former(key).Do("SET", key, "me")
		c.Expect("1", "EVAL", unlock, "2", key, "channel:"+key, "me", "publish")
	}
	if n := scans(); n > 0 {
		t.Errorf("%d nodes had to scan their keys", n)
	}
}

// TestScriptsWhileSlotsMove: the slot of a script's keys is on its way to another node of a cluster, while
// keys move out of the cluster. Some of the keys that the script does not declare are at the one node already,
// and the script waits for these, too.
func TestScriptsWhileSlotsMove(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	cluster, apart := redistest.NewCluster(t, 3, 0), redistest.Start(t)
	putInForce(t, 1, cluster.SeedsYAML(), redistest.Ring(apart.Addr), append(cluster.Nodes[:3:3], apart)...)
	k := redistest.ServeProcess(t, cluster.SeedsYAML())
	slot := int(slots.Of([]byte("{q}")))
	at := cluster.Owner(0, slot)
	from, to := cluster.Nodes[at], cluster.Nodes[(at+1)%3]
	fromID, toID := cluster.IDs[at], cluster.IDs[(at+1)%3]
	from.Do("LPUSH", "{q}pending", "7")
	from.Do("HSET", "{q}job:7", "msg", "hello")
	to.Do("CLUSTER", "SETSLOT", fmt.Sprint(slot), "IMPORTING", fromID)
	from.Do("CLUSTER", "SETSLOT", fmt.Sprint(slot), "MIGRATING", toID)
	migrate := func(key string) {
		from.Do("MIGRATE", "127.0.0.1", fmt.Sprint(to.Port), key, "0", "5000")
	}
	migrate("{q}job:7")
	reply := make(chan string, 1)
	c := redistest.Dial(t, k.Addr)
	go func() {
		r, err := c.TryDo("EVAL", "return redis.call('HGET', ARGV[1] .. redis.call('RPOP', KEYS[1]), 'msg')", "1",
			"{q}pending", "{q}job:")
		reply <- fmt.Sprint(r, err)
	}()
	redistest.Eventually(t, 20*time.Second, "the node is looked through twice, or the script has run", func() bool {
		return strings.Contains(from.Do("INFO", "commandstats").Text, "cmdstat_scan:calls=2") || len(reply) > 0
	})
	if redistest.Ask(from.Addr, "EXISTS", "{q}pending").Int > 0 { // otherwise it has left the cluster
		migrate("{q}pending")
	}
	for _, n := range []*redistest.Node{to, from} {
		n.Do("CLUSTER", "SETSLOT", fmt.Sprint(slot), "NODE", toID)
	}
	if got := <-reply; got != "hello <nil>" {
		t.Errorf("the script returns %s", got)
	}
}
