package test

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// A type's commands, in words that stand for something at random:
//
//	K a key of the sequence     V a value, F a field or member of few
//	N a small number            D a number with a fraction
//	T a time in the far future  I an entry's id in a stream
//	G a longitude and latitude
//
// Those whose replies are random, or speak of the node or the moment, are not
// among them: RANDOMKEY, SPOP, SRANDMEMBER, HRANDFIELD and ZRANDMEMBER of some
// (of all, they are), XADD with *, XINFO, OBJECT IDLETIME and FREQ, TTL of what
// does not end in the far future, MEMORY, CLIENT, INFO, TIME. Sets come in any
// order, in DUMP too.
var dataTypes = map[string]string{
	"string": `
		SET K V|SET K N|SET K D|SET K V NX|SET K V XX GET|SET K V PXAT T|SET K V KEEPTTL|SET K V EX 0|GET K|GET K
		GETEX K PERSIST|GETSET K V|GETDEL K|APPEND K V|STRLEN K
		SETRANGE K N V|GETRANGE K N N|SUBSTR K 0 N|INCR K|DECR K|INCRBY K N|DECRBY K N|INCRBYFLOAT K D|SETNX K V
		SETEX K 100000 V|PSETEX K 100000000 V
		MSET K V K V|MSETNX K V K V|MGET K K K|LCS K K|LCS K K LEN|LCS K K IDX WITHMATCHLEN|OBJECT ENCODING K`,
	"bitmap": `
		SETBIT K N 1|SETBIT K N 0|SETBIT K N 1|SET K V|GETBIT K N|BITCOUNT K|BITCOUNT K 0 N|BITCOUNT K 0 N BIT
		BITPOS K 1|BITPOS K 0 1 N BIT|BITOP AND K K K|BITOP OR K K K|BITOP XOR K K K|BITOP NOT K K
		BITFIELD K SET u8 N N GET u4 0 INCRBY i5 N N|BITFIELD K OVERFLOW FAIL INCRBY u2 N 1|BITFIELD_RO K GET u8 0
		GET K`,
	"list": `
		RPUSH K V|LPUSH K V V|RPUSH K V V V|RPUSHX K V|LPUSHX K V|LPOP K|RPOP K|LPOP K 2|RPOP K 0|LLEN K
		LRANGE K 0 -1|LRANGE K N N|LINDEX K N|LSET K N V|LINSERT K BEFORE V V|LREM K N V|LTRIM K N -1
		LPOS K V|LPOS K V COUNT 0|LMOVE K K LEFT RIGHT|RPOPLPUSH K K|LMPOP 2 K K LEFT|LMPOP 1 K RIGHT COUNT 2
		BLPOP K K 0.001|BRPOP K 0.001|BLMOVE K K LEFT LEFT 0.001|BLMPOP 0.001 1 K LEFT|BRPOPLPUSH K K 0.001
		SORT K ALPHA|SORT K ALPHA DESC LIMIT 0 2|SORT K|SORT K ALPHA STORE K|SORT_RO K ALPHA|DEL K|COPY K K
		RENAME K K`,
	"hash": `
		HSET K F V|HSET K F V F V|HSET K F N|HSETNX K F V|HMSET K F V F V|HGET K F|HMGET K F F|HGETALL K|HKEYS K
		HVALS K|HLEN K|HEXISTS K F|HDEL K F|HDEL K F F|HSTRLEN K F|HINCRBY K F N|HINCRBYFLOAT K F D
		HRANDFIELD K 20|HRANDFIELD K 20 WITHVALUES|HSCAN K 0|HSCAN K 0 MATCH *a* COUNT 100|OBJECT ENCODING K|DUMP K`,
	"set": `
		SADD K F|SADD K F F F|SADD K N N|SREM K F|SREM K F F|SISMEMBER K F|SMISMEMBER K F F N|SMEMBERS K|SCARD K
		SMOVE K K F|SINTER K K|SUNION K K K|SDIFF K K|SINTERSTORE K K K|SUNIONSTORE K K K|SDIFFSTORE K K K
		SINTERCARD 2 K K|SINTERCARD 2 K K LIMIT 1|SPOP K 20|SRANDMEMBER K 20|SSCAN K 0|OBJECT ENCODING K
		SORT K ALPHA`,
	"zset": `
		ZADD K N F|ZADD K D F D F|ZADD K NX N F|ZADD K XX CH N F|ZADD K GT N F|ZADD K INCR D F|ZINCRBY K D F
		ZREM K F|ZCARD K|ZSCORE K F|ZMSCORE K F F|ZRANK K F|ZREVRANK K F|ZCOUNT K -inf +inf|ZCOUNT K (N N
		ZLEXCOUNT K - +
		ZRANGE K 0 -1|ZRANGE K 0 -1 WITHSCORES|ZRANGE K 0 -1 REV WITHSCORES|ZRANGE K N N BYSCORE LIMIT 0 2
		ZREVRANGE K 0 -1 WITHSCORES|ZRANGEBYSCORE K -inf +inf WITHSCORES|ZREVRANGEBYSCORE K +inf -inf
		ZRANGEBYLEX K - +|ZREVRANGEBYLEX K + -
		ZPOPMIN K|ZPOPMAX K 2|ZMPOP 1 K MIN|ZMPOP 2 K K MAX COUNT 2|BZPOPMIN K 0.001|BZPOPMAX K K 0.001
		BZMPOP 0.001 1 K MIN|ZUNION 2 K K WITHSCORES|ZINTER 2 K K|ZDIFF 2 K K WITHSCORES|ZINTERCARD 2 K K
		ZUNIONSTORE K 2 K K|ZINTERSTORE K 2 K K WEIGHTS N N|ZDIFFSTORE K 2 K K|ZRANGESTORE K K 0 1
		ZREMRANGEBYRANK K 0 0|ZREMRANGEBYSCORE K N N|ZREMRANGEBYLEX K [a [b|ZRANDMEMBER K 20 WITHSCORES|ZSCAN K 0
		OBJECT ENCODING K`,
	"stream": `
		XADD K I F V|XADD K I F V F V|XADD K MAXLEN 3 I F V|XADD K NOMKSTREAM I F V|XLEN K|XRANGE K - +
		XRANGE K I + COUNT 2|XREVRANGE K + -|XDEL K I|XTRIM K MAXLEN 2|XREAD COUNT 2 STREAMS K 0
		XREAD STREAMS K K 0 0|XREAD BLOCK 1 STREAMS K $
		XGROUP CREATE K g 0 MKSTREAM|XGROUP CREATE K g $|XGROUP CREATECONSUMER K g c|XGROUP SETID K g 0
		XGROUP DELCONSUMER K g c|XGROUP DESTROY K g|XREADGROUP GROUP g c COUNT 2 STREAMS K >
		XREADGROUP GROUP g c STREAMS K 0|XREADGROUP GROUP g c BLOCK 1 STREAMS K >
		XACK K g I|XPENDING K g|XCLAIM K g c 0 I|XCLAIM K g c 0 I JUSTID|XAUTOCLAIM K g c 0 0
		XAUTOCLAIM K g c 0 0 JUSTID|XSETID K 99999-9`,
	"hyperloglog": `PFADD K V|PFADD K V V V|PFADD K F F|PFCOUNT K|PFCOUNT K K|PFMERGE K K K|GET K|STRLEN K`,
	"geo": `
		GEOADD K G F|GEOADD K G F G F|GEOADD K NX CH G F|GEOPOS K F F|GEODIST K F F|GEODIST K F F km|GEOHASH K F F
		GEOSEARCH K FROMLONLAT G BYRADIUS 5000 km ASC
		GEOSEARCH K FROMMEMBER F BYBOX 9000 9000 km DESC WITHCOORD WITHDIST WITHHASH
		GEOSEARCHSTORE K K FROMLONLAT G BYRADIUS 9000 km|GEORADIUS K G 5000 km WITHDIST ASC
		GEORADIUSBYMEMBER K F 9000 km COUNT 1 ASC|GEORADIUS_RO K G 3000 km ASC|ZCARD K|ZREM K F`,
	"key": `
		SET K V|SET K N|RPUSH K N N N|SADD K N N|HSET K F V|ZADD K N F|TYPE K|EXISTS K K|DEL K|UNLINK K K|TOUCH K K
		EXPIREAT K 99999999999|PEXPIREAT K T|PEXPIREAT K T NX|PEXPIREAT K T GT|EXPIRETIME K|PEXPIRETIME K|PERSIST K
		RENAME K K|RENAMENX K K|COPY K K|COPY K K REPLACE|DUMP K|RESTORE K 0 V|OBJECT ENCODING K|OBJECT REFCOUNT K
		OBJECT HELP|SORT K|SORT K DESC ALPHA|TTL K|GET K|EXPIRE K -1
		EVAL return{KEYS[1],redis.call('TYPE',KEYS[1])} 1 K|EVAL return{1,2.5,'x',false,{1}} 1 K
		EVAL redis.setresp(3)return{map={a=1},double=1.5} 1 K
		EVAL redis.setresp(3)return(redis.call('HGETALL',KEYS[1])) 1 K|EVAL return{err='MY_ERR_it'} 1 K
		EVAL_RO return(redis.call('SET',KEYS[1],1)) 1 K
		FCALL nosuch 1 K|EVALSHA ffffffffffffffffffffffffffffffffffffffff 1 K`,
}

// newerCommands are those that not every server has. Times of fields are far moments:
// of those that end at the same moment after a while, the servers may differ in order.
var newerCommands = map[string]string{
	"string": `
		MSETEX 2 K V K V|MSETEX 1 K V NX|MSETEX 2 K V K V XX KEEPTTL|MSETEX 1 K V PXAT T|DELIFEQ K V|DELEX K
		DELEX K IFEQ V|DELEX K IFNE V|DIGEST K|INCREX K|INCREX K BYINT N|SET K V IFEQ V|SET K V IFEQ V GET`,
	"hash": `
		HPEXPIREAT K T FIELDS 1 F|HPEXPIREAT K T NX FIELDS 2 F F|HPEXPIREAT K T GT FIELDS 1 F
		HEXPIREAT K 99999999999 FIELDS 1 F|HEXPIRE K 0 FIELDS 1 F|HEXPIRE K 100000 FIELDS N F F
		HPEXPIRE K -1 FIELDS 1 F
		HEXPIRETIME K FIELDS 1 F|HPEXPIRETIME K FIELDS 2 F F
		HPERSIST K FIELDS 2 F F|HGETEX K FIELDS 1 F|HGETEX K PERSIST FIELDS 2 F F|HGETEX K PXAT T FIELDS 1 F
		HGETDEL K FIELDS 2 F F
		HSETEX K FIELDS 2 F V F V|HSETEX K FNX PXAT T FIELDS 1 F V|HSETEX K FXX KEEPTTL FIELDS 1 F V`,
	"set":  `SDIFFCARD 2 K K|SUNIONCARD 2 K K|SUNIONCARD 2 K K LIMIT 2`,
	"list": `LMOVEM K K LEFT RIGHT 2`,
	"stream": `
		XDELEX K IDS 1 I|XDELEX K ACKED IDS 2 I I|XACKDEL K g IDS 1 I|XACKDEL K g DELREF IDS 2 I I
		XADD K DELREF MAXLEN 2 I F V|XTRIM K MAXLEN 1 ACKED`,
	"vector": `
		VADD K VALUES 2 D D F|VADD K VALUES 2 D N F|VADD K VALUES 3 N N N F SETATTR {"a":1}
		VADD K REDUCE 1 VALUES 2 N N F|VSIM K VALUES 2 D D|VSIM K VALUES 2 N N WITHSCORES
		VSIM K ELE F COUNT 100 TRUTH|VSIM K ELE F FILTER .a==1
		VREM K F|VCARD K|VDIM K|VEMB K F|VISMEMBER K F|VSETATTR K F {"a":N}|VSETATTR K F {"a":1}|VGETATTR K F
		VRANDMEMBER K 20|VRANGE K - +|VLINKS K nosuch|TYPE K|OBJECT ENCODING K`,
}

// withNewer returns the commands of each data type that a server has.
func withNewer(server *redistest.Node) map[string][]string {
	lines := func(text string) (all []string) {
		for _, line := range strings.FieldsFunc(text, func(r rune) bool { return r == '|' || r == '\n' }) {
			if line = strings.TrimSpace(line); line != "" {
				all = append(all, line)
			}
		}
		return all
	}
	all := map[string][]string{}
	for name, text := range dataTypes {
		all[name] = lines(text)
	}
	for name, text := range newerCommands {
		own := all[name]
		for _, template := range lines(text) {
			if info := server.Do("COMMAND", "INFO", strings.Fields(template)[0]); info.Elems[0].Kind == '*' {
				own = append(own, template)
			}
		}
		if name != "vector" || len(own) > len(lines("TYPE K|OBJECT ENCODING K")) {
			all[name] = own
		}
	}
	return all
}

// unordered are the commands whose replies are sets, in whatever order.
var unordered = []string{
	"SMEMBERS", "SINTER", "SUNION", "SDIFF", "SSCAN", "SPOP", "SRANDMEMBER", "SORT", "VSIM", "VRANDMEMBER",
}

// unorderedSince are more of them on newer servers, which keep some hashes and sorted
// sets by a hash function of their own seed.
var unorderedSince = []string{"ZSCAN", "HGETALL", "HKEYS", "HVALS", "HSCAN", "HRANDFIELD"}

// unorderedBy returns the commands whose replies have no fixed order on servers with these commands.
func unorderedBy(templates map[string][]string) []string {
	if slices.Contains(templates["hash"], "HEXPIRETIME K FIELDS 1 F") {
		return slices.Concat(unordered, unorderedSince)
	}
	return unordered
}

// sequence is commands of one type on keys that live together.
type sequence struct {
	rng *rand.Rand
	tag string
}

func (q *sequence) word(w string) string {
	pick := func(some string) string {
		f := strings.Fields(some)
		return f[q.rng.IntN(len(f))]
	}
	switch w {
	case "K":
		return q.tag + pick("a b c")
	case "V":
		return pick("x yy zzz hello 0 17 -3 3.5 aXbXc") + pick("1 2 3")
	case "F":
		return pick("a b c d e ab bc")
	case "N":
		return pick("0 1 2 3 5 7 -1 -2 100")
	case "(N":
		return "(" + pick("0 1 2 3")
	case "D":
		return pick("0.5 1.25 -3.75 2 1e3 inf -0.1")
	case "T":
		return pick("33177117420000 33177117420001")
	case "I":
		return pick("1-1 2-0 3-5 4-* 7 0-1 99-1")
	case "G":
		return pick("13.361389 15.087269 -74.0 0 179.9") + " " + pick("38.115556 37.502669 40.7 0 -85")
	}
	return w
}

func (q *sequence) command(templates []string) []string {
	template := templates[q.rng.IntN(len(templates))]
	blocks := func(s string) bool { return strings.Contains(s, "0.001") || strings.Contains(s, "BLOCK") }
	for blocks(template) && q.rng.IntN(12) > 0 {
		template = templates[q.rng.IntN(len(templates))] // Redis looks for those whose time is up ten times a second
	}
	var args []string
	for _, w := range strings.Fields(template) {
		args = append(args, strings.Fields(q.word(w))...)
	}
	switch q.rng.IntN(40) {
	case 0:
		// 0.001 would be taken for a key. A rank's score came with Redis 7.2: keyway queues
		// such a command, and an older node refuses it at EXEC.
		if !strings.HasSuffix(template, " 0.001") && !strings.HasSuffix(args[0], "RANK") {
			args = append(args, q.word("K"))
		}
	case 1:
		if random := args[0] == "SPOP" || strings.Contains(args[0], "RAND"); len(args) > 2 && !random {
			args = args[:len(args)-1]
		}
	}
	return args
}

// moments are the times at which keys expire, and the times to live. The two servers
// execute a command at different times, so these differ. 31... is the time to live until
// the distant time that the sequences use.
var moments = regexp.MustCompile(`:(1[789]\d{8}(\d{3})?|31[34]\d{8}(\d{3})?|100000(000)?|99999(\d{3})?)\r\n`)

// canonical sorts replies whose elements have no fixed order.
func canonical(command, reply string, unordered []string) string {
	reply = moments.ReplaceAllString(reply, ":moment\r\n")
	if command == "DUMP" {
		var value string
		if reply, value, _ = strings.Cut(reply, "\r\n"); strings.HasPrefix(value, "\a") {
			reply = "a vector set" // with links that are drawn at random
		}
	}
	if !slices.Contains(unordered, command) {
		return reply
	}
	lines := strings.Split(reply, "\r\n")
	slices.Sort(lines)
	return strings.Join(lines, "\r\n")
}

// TestLikeRedis has thousands of random sequences of each data type's commands,
// in RESP2 and RESP3, some of them in a transaction, answered by keyway and by a
// Redis of its own: byte for byte the same.
func TestLikeRedis(t *testing.T) {
	t.Parallel()
	oracle := redistest.Start(t)
	templates := withNewer(oracle)
	anyOrder := unorderedBy(templates)
	var all []string
	for _, own := range templates {
		all = append(all, own...)
	}
	slices.Sort(all)
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, _ []*redistest.Node) {
		oracle.Do("FLUSHALL")
		for name, own := range templates {
			for _, protocol := range []string{"2", "3"} {
				t.Run(name+" "+protocol, func(t *testing.T) {
					t.Parallel()
					c := comparison{ours: k.Dial(), theirs: redistest.Dial(t, oracle.Addr), anyOrder: anyOrder}
					c.ours.Do("HELLO", protocol)
					c.theirs.Do("HELLO", protocol)
					h := fnv.New64a()
					h.Write([]byte(t.Name()))
					rng := rand.New(rand.NewPCG(h.Sum64(), 7))
					for n := range underRace(200, 20) { // on five layouts, in two protocols: 2,000 of each type
						user := fmt.Sprintf("user:%d", 1+rng.IntN(2000)) // the range layout's rules are for such keys
						q := &sequence{rng: rng, tag: fmt.Sprintf("%s:{%s}%s%s%d", user, user, name, protocol, n)}
						c.run(t, q.commands(own, all))
					}
					c.ours.Close()
					c.theirs.Close()
				})
			}
		}
	})
}

// commands returns random commands of own, a tenth of all, in one case of five as a
// transaction.
func (q *sequence) commands(own, all []string) (commands [][]string) {
	for range 4 + q.rng.IntN(16) {
		from := own
		if q.rng.IntN(10) == 0 {
			from = all // of the wrong type
		}
		commands = append(commands, q.command(from))
	}
	if q.rng.IntN(5) == 0 {
		// A vector set's links are random. Within EXEC's reply, its DUMP cannot be recognized.
		commands = slices.DeleteFunc(commands, func(args []string) bool { return args[0] == "DUMP" })
		commands = append(append([][]string{{"MULTI"}}, commands...), []string{"EXEC"})
	}
	return commands
}

// comparison sends the same commands to keyway and to a Redis.
type comparison struct {
	ours, theirs *redistest.Client
	anyOrder     []string // commands whose replies come in any order
}

// run sends commands and fails the test unless the replies are the same.
func (c *comparison) run(t *testing.T, commands [][]string) {
	t.Helper()
	for _, args := range commands {
		c.ours.Send(args...)
		c.theirs.Send(args...)
	}
	c.ours.Flush()
	c.theirs.Flush()
	for i, args := range commands {
		got, err := c.ours.ReceiveRaw()
		want, err2 := c.theirs.ReceiveRaw()
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		name := args[0]
		if name == "EXEC" {
			name = "SMEMBERS" // there may be one among them
		}
		if canonical(name, got, c.anyOrder) != canonical(name, want, c.anyOrder) {
			t.Fatalf("%q of %q:\nkeyway says %q\nRedis says  %q", args, commands[:i], got, want)
		}
	}
}
