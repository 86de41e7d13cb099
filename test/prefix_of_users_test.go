package test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// prefixYAML are users of whom two have a prefix. The default user has none.
const prefixYAML = `
users:
  - {name: default, acl: "on nopass ~* &* +@all"}
  - {name: app, acl: "on >pw ~* &* +@all", prefix: "app:", scripts: true}
  - {name: team, acl: "on >pw ~* &* +@all", prefix: "{team[1]?}:"}
`

// prefixDial connects as a user of prefixYAML.
func prefixDial(t testing.TB, k *redistest.Keyway, user, protocol string) *redistest.Client {
	t.Helper()
	c := k.Dial()
	c.MustDo("HELLO", protocol, "AUTH", user, "pw")
	return c
}

// eachPrefixLayout calls f with a keyway for each layout, whose users are those of prefixYAML.
func eachPrefixLayout(t *testing.T, f func(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node)) {
	nodes := redistest.Three(t)
	for name, yaml := range redistest.Layouts(nodes) {
		t.Run(name, func(t *testing.T) {
			for _, n := range nodes {
				n.Do("FLUSHALL")
			}
			f(t, redistest.Serve(t, "threads: 2\n"+yaml+prefixYAML).Ready(), nodes)
		})
	}
	t.Run("cluster", func(t *testing.T) {
		c := redistest.NewCluster(t, 3, 0, "--cluster-node-timeout", "15000")
		f(t, redistest.Serve(t, "threads: 2\n"+c.SeedsYAML()+prefixYAML).Ready(), c.Nodes)
	})
}

// secret is in all values of the keys that do not belong to the user of a test.
const secret = "SECRET"

// strangers makes keys of each type with the names, and with values that contain secret, and
// returns what they are.
func strangers(t testing.TB, k *redistest.Keyway, nodes []*redistest.Node, names []string) map[string]string {
	t.Helper()
	c := k.Dial()
	defer c.Close()
	for i, name := range names {
		c.MustDo([][]string{
			{"SET", name, secret}, {"RPUSH", name, secret, secret + "2"}, {"HSET", name, "a", secret, "f", secret},
			{"SADD", name, secret, secret + "2"}, {"ZADD", name, "1", secret, "2", secret + "2"},
			{"XADD", name, "1-1", "f", secret}, {"GEOADD", name, "13.36", "38.11", secret},
		}[i%7]...)
	}
	return foreignTo(nodes, "no prefix")
}

// foreignTo returns the values of all keys on the nodes that do not begin with the prefix.
func foreignTo(nodes []*redistest.Node, prefix string) map[string]string {
	all := map[string]string{}
	for _, n := range nodes {
		for _, key := range n.Keys() {
			if !strings.HasPrefix(key, prefix) {
				all[key] = n.Do("DUMP", key).Text
			}
		}
	}
	return all
}

// TestPrefixLikeRedis: random sequences of commands of a user with a prefix get, byte for byte,
// what a Redis without prefixes answers. Keys of the same names without the prefix, which others
// have, stay as they are and are never seen.
func TestPrefixLikeRedis(t *testing.T) {
	t.Parallel()
	oracle := redistest.Start(t)
	anyOrder := unorderedBy(withNewer(oracle))
	own, all := map[string][]string{}, []string(nil)
	for name, text := range dataTypes {
		for _, line := range strings.FieldsFunc(text, func(r rune) bool { return r == '|' || r == '\n' }) {
			line = strings.TrimSpace(line)
			if line != "" && !strings.Contains(line, "return{KEYS[1],") { // a script sees the whole name
				own[name], all = append(own[name], line), append(all, line)
			}
		}
	}
	slices.Sort(all)
	names := slices.Sorted(maps.Keys(own))
	eachPrefixLayout(t, func(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node) {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 7))
		t.Logf("seed %d", seed)
		oracle.Do("FLUSHALL")
		var taken []string
		for i := range 21 {
			name := fmt.Sprintf("u{%d}%s", i/3, string("abc"[i%3]))
			taken = append(taken, name, "other:"+name)
		}
		before := strangers(t, k, nodes, taken)
		for n := range underRace(120, 12) {
			protocol := []string{"2", "3"}[n%2]
			name := names[rng.IntN(len(names))]
			c := comparison{
				ours: prefixDial(t, k, "app", protocol), theirs: redistest.Dial(t, oracle.Addr), anyOrder: anyOrder,
			}
			c.theirs.Do("HELLO", protocol)
			oracle.Do("FLUSHALL")
			for _, key := range ownKeys(t, k) {
				c.ours.Do("DEL", key)
			}
			q := &sequence{rng: rng, tag: fmt.Sprintf("u{%d}", rng.IntN(7))}
			for range 3 {
				c.run(t, q.commands(own[name], all))
			}
			c.ours.Close()
			c.theirs.Close()
		}
		if after := foreignTo(nodes, "app:"); !maps.Equal(after, before) {
			t.Errorf("the keys of others were %d, and are now %q", len(before), slices.Sorted(maps.Keys(after)))
		}
	})
}

// ownKeys returns the keys of the user app, by SCAN.
func ownKeys(t testing.TB, k *redistest.Keyway) (keys []string) {
	t.Helper()
	c := prefixDial(t, k, "app", "2")
	defer c.Close()
	for cursor := "0"; ; {
		page := c.MustDo("SCAN", cursor, "COUNT", "50")
		for _, key := range page.Elems[1].Elems {
			keys = append(keys, key.Text)
		}
		if cursor = page.Elems[0].Text; cursor == "0" {
			slices.Sort(keys)
			return keys
		}
	}
}

// prefixWords are what random commands consist of: names of keys, options that announce a key,
// and numbers.
var prefixWords = strings.Fields("a b c d e f g a b c d e f g other:a app:a * a* # $ > 0 1 2 3 -1 0-0 1-1 g m km " +
	"LEFT STORE STOREDIST STREAMS GROUP BY GET LIMIT COUNT MATCH TYPE BLOCK 1 KEYS COPY REPLACE ASC WITHCOORD ANY " +
	"NOACK PREFIX BCAST ON OFF CHANNELS NUMSUB AUTH FIELDS IDS AGGREGATE SUM WEIGHTS DB 0 FROMMEMBER FROMLONLAT " +
	"BYRADIUS store streams get by +1 01 1.0")

// prefixHeads are the beginnings of commands whose options have keys, and prefixOptions such
// options: a random one is often what a node accepts.
var (
	prefixHeads = []string{
		"GEORADIUS a 1 1 9 km", "GEORADIUS g 1 1 9 km STORE a", "GEORADIUSBYMEMBER a b 9 km", "SORT a",
		"SORT a STORE b", "SORT a BY *", "XREAD STREAMS", "XREAD COUNT 1", "XREADGROUP GROUP a b", "SCAN 0",
		"SCAN 0 COUNT 100", "KEYS", "ZUNIONSTORE a 1", "ZUNION 2", "LMPOP 1", "ZMPOP 2", "BITOP OR", "MEMORY USAGE",
		"OBJECT ENCODING", "COPY a", "GEOSEARCHSTORE a", "ZRANGESTORE a", "SORT_RO a", "RENAME", "RESTORE a 0",
		"PUBSUB CHANNELS", "SINTERCARD 2",
	}
	prefixOptions = strings.Fields("STORE STORE STOREDIST a b c d e f g a b c d e f g GET BY * LIMIT 0 1 2 STREAMS " +
		"MATCH COUNT LEFT MIN REPLACE TYPE string AGGREGATE SUM WEIGHTS ASC ALPHA")
)

// notAtRandom are commands that would end the connection, change how replies come, or wait.
var notAtRandom = strings.Fields("quit reset auth hello multi exec watch discard monitor subscribe psubscribe " +
	"ssubscribe unsubscribe punsubscribe sunsubscribe command client wait waitaof blpop brpop bzpopmin bzpopmax " +
	"blmove brpoplpush blmpop bzmpop select shutdown failover " +
	"eval evalsha eval_ro evalsha_ro fcall fcall_ro script function debug sync psync replconf xread xreadgroup")

// TestPrefixHidesOthers: whatever a user with a prefix sends, no reply shows keys or values of
// others, and these stay as they are.
func TestPrefixHidesOthers(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	nodes := []*redistest.Node{node}
	k := redistest.Serve(t, redistest.Ring(node.Addr)+prefixYAML).Ready()
	taken := strings.Fields("a b c d e f g other:a other:b other:c other:d other:e other:f other:g * # STORE")
	before := strangers(t, k, nodes, taken)
	var commands []string
	for _, e := range node.Do("COMMAND", "LIST").Elems {
		if !slices.Contains(notAtRandom, e.Text) {
			commands = append(commands, e.Text)
		}
	}
	slices.Sort(commands)
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 3))
	c := prefixDial(t, k, "team", "3")
	for range underRace(60, 6) {
		var sent [][]string
		for range 500 {
			args, words := []string{commands[rng.IntN(len(commands))]}, prefixWords
			if rng.IntN(2) == 0 {
				args, words = strings.Fields(prefixHeads[rng.IntN(len(prefixHeads))]), prefixOptions
			}
			for range rng.IntN(9) {
				args = append(args, words[rng.IntN(len(words))])
			}
			if strings.HasPrefix(args[0], "xread") {
				args = slices.DeleteFunc(args, func(w string) bool { return w == "BLOCK" })
			}
			sent = append(sent, args)
			c.Send(args...)
		}
		c.Flush()
		for _, args := range sent {
			reply, err := c.ReceiveRaw()
			if err != nil {
				t.Fatalf("seed %d: %q: %v", seed, args, err)
			}
			if strings.Contains(reply, secret) || strings.Contains(reply, "other:b") { // no word of the user's
				t.Fatalf("seed %d: %q: the user sees %q", seed, args, reply)
			}
		}
	}
	if after := foreignTo(nodes, "{team[1]?}:"); !maps.Equal(after, before) {
		t.Errorf("seed %d: the keys of others were %q, and are now %q", seed, slices.Sorted(maps.Keys(before)),
			slices.Sorted(maps.Keys(after)))
	}
}
