package test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// markedReplica returns the text of a master and its replica for a configuration. The key where has
// the name of the node that is read as its value.
func markedReplica(t *testing.T) (nodes string, replica *redistest.Node) {
	t.Helper()
	master := redistest.Start(t)
	replica = redistest.Replica(t, master)
	replica.Do("CONFIG", "SET", "slave-read-only", "no")
	master.Do("SET", "where", "master")
	redistest.Eventually(t, 20*time.Second, "the replica has it", func() bool {
		return replica.Do("GET", "where").Text == "master"
	})
	replica.Do("SET", "where", "replica")
	return fmt.Sprintf("nodes:\n  - {name: a, addr: %s, replicas: [%s]}\n", master.Addr, replica.Addr), replica
}

// readsFrom waits until a client reads from the node, and checks that it goes on.
func readsFrom(t *testing.T, c *redistest.Client, want, when string) {
	t.Helper()
	redistest.Eventually(t, 20*time.Second, when+": reads from the "+want, func() bool {
		return c.Do("GET", "where").Text == want
	})
	for range 100 {
		if got := c.Do("GET", "where").Text; got != want {
			t.Fatalf("%s: read from the %s, want the %s", when, got, want)
		}
	}
}

// TestReadsOfUser: a user's reads go where the settings of that user say, and those of the others where
// the configuration says. The client sees its own writes, also those that it has made as another user.
func TestReadsOfUser(t *testing.T) {
	t.Parallel()
	nodes, _ := markedReplica(t)
	const users = "users: [{name: default, acl: \"on nopass ~* &* +@all\"}, " +
		"{name: batch, acl: \"on >pw ~* &* +@all\", reads: %s}]\n"
	for _, of := range []struct{ file, user, others, own string }{
		{"reads: master\n", "replica", "master", "replica"},
		{"", "prefer-replica", "master", "replica"},
		{"reads: prefer-replica\n", "master", "replica", "master"},
		{"reads: replica\n", "master", "replica", "master"},
	} {
		when := fmt.Sprintf("%q, %s", of.file, of.user)
		k := redistest.Serve(t, "layout: ring\nthreads: 2\n"+nodes+of.file+fmt.Sprintf(users, of.user)).Ready()
		c := k.Dial()
		readsFrom(t, c, of.others, when+", the default user")
		c.Expect("OK", "AUTH", "batch", "pw")
		readsFrom(t, c, of.own, when+", the user")
		for i := range 100 {
			n := strconv.Itoa(i)
			c.Expect("OK", "SET", "own", n)
			c.Expect(n, "GET", "own")
			c.Expect("RESET", "RESET")
			c.Expect(n, "GET", "own")
			c.Expect("OK", "SET", "own", "-"+n)
			c.Expect("OK", "AUTH", "batch", "pw")
			c.Expect("-"+n, "GET", "own")
		}
		readsFrom(t, c, of.own, when+", the user again")
		c.Expect("RESET", "RESET")
		readsFrom(t, c, of.others, when+", the default user again")
	}
}

// TestReadsOfUserOptIn: READONLY and READWRITE are for users who may read from replicas. Others get
// the same error as without replicas.
func TestReadsOfUserOptIn(t *testing.T) {
	t.Parallel()
	nodes, _ := markedReplica(t)
	const users = "users: [{name: default, acl: \"on nopass +@all ~*\"}, " +
		"{name: batch, acl: \"on >pw ~* +@all\", reads: prefer-replica}]\n"
	c := redistest.Serve(t, "layout: ring\n"+nodes+"replicas: {opt_in: true}\n"+users).Ready().Dial()
	c.Expect("-ERR This instance has cluster support disabled", "READONLY")
	c.Expect("OK", "AUTH", "batch", "pw")
	readsFrom(t, c, "master", "before READONLY")
	c.Expect("OK", "READONLY")
	readsFrom(t, c, "replica", "after READONLY")
	c.Expect("OK", "READWRITE")
	readsFrom(t, c, "master", "after READWRITE")
}

// TestReadsOfUserInACluster: the replicas of a cluster serve the reads of one user, and none of others.
func TestReadsOfUserInACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.Redis.Cluster(t, 3, 1)
	k := redistest.Serve(t, cluster.SeedsYAML()+"users: [{name: default, acl: \"on nopass ~* +@all\"}, "+
		"{name: batch, acl: \"on >pw ~* +@all\", reads: replica}]\n").Ready()
	others, batch := k.Dial(), k.Dial()
	batch.Expect("OK", "AUTH", "batch", "pw")
	served := func() (calls int) {
		for _, n := range cluster.Nodes[3:] {
			calls += getsOf(n)
		}
		return calls
	}
	for i := range 30 {
		key := fmt.Sprint("key:", i)
		others.Expect("OK", "SET", key, "v")
		redistest.Eventually(t, 20*time.Second, "a replica has the key", func() bool {
			return batch.Do("GET", key).Text == "v"
		})
	}
	redistest.Eventually(t, 20*time.Second, "replicas serve the user", func() bool {
		before := served()
		batch.Expect("v", "GET", "key:1")
		return served() == before+1
	})
	before := served()
	for i := range 30 {
		others.Expect("v", "GET", fmt.Sprint("key:", i))
	}
	if after := served(); after != before {
		t.Errorf("replicas have served %d reads of a user who reads from masters", after-before)
	}
}

// getsOf returns how many GET a node has executed.
func getsOf(n *redistest.Node) int {
	_, rest, _ := strings.Cut(n.Do("INFO", "commandstats").Text, "cmdstat_get:calls=")
	calls, _, _ := strings.Cut(rest, ",")
	count, _ := strconv.Atoi(calls)
	return count
}

// TestReloadReadsOfUsers: a reload lets replicas serve a user whose clients are connected, and stops it
// again, while all clients see their own writes. keyway then leaves the replica.
func TestReloadReadsOfUsers(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	nodes, replica := markedReplica(t)
	const users = "layout: ring\nusers: [{name: default, acl: \"on nopass ~* +@all\"}, " +
		"{name: batch, acl: \"on >pw ~* +@all\"%s}]\n"
	r := startReloadable(t, nodes, fmt.Sprintf(users, ""))
	l := &load{t: t, addr: r.listen}
	for _, as := range []string{"default", "batch"} {
		l.run(5, func(c *redistest.Client, id int) error {
			if as == "batch" {
				c.Expect("OK", "AUTH", as, "pw")
			}
			key := fmt.Sprintf("own:%s:%d", as, id)
			return l.each(func(i int) error {
				if err := expect(c, "OK", "SET", key, strconv.Itoa(i)); err != nil {
					return err
				}
				return expect(c, strconv.Itoa(i), "GET", key)
			})
		})
	}
	batch, other := redistest.Dial(t, r.listen), redistest.Dial(t, r.listen)
	batch.Expect("OK", "AUTH", "batch", "pw")
	for _, reads := range []string{"replica", "nearest", "prefer-replica"} {
		r.reload(fmt.Sprintf(users, ", reads: "+reads))
		if reads != "nearest" {
			readsFrom(t, batch, "replica", "reads: "+reads)
		}
		readsFrom(t, other, "master", "reads: "+reads+" of another user")
		r.reload(fmt.Sprintf(users, ""))
		readsFrom(t, batch, "master", "after reads: "+reads)
		redistest.Eventually(t, 20*time.Second, "keyway has left the replica", func() bool {
			return !strings.Contains(replica.Do("CLIENT", "LIST").Text, "name=keyway:")
		})
	}
	l.stop.Store(true)
	l.clients.Wait()
}
