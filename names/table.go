package names

import (
	"strings"

	"github.com/keyway-proxy/keyway/command"
)

// place says where the names of a command are among its arguments.
type place uint8

const (
	refused      place = iota // the command is refused; also all that the table does not know
	nowhere                   // it has no names
	asKeys                    // where its key specifications say
	inStreams                 // XREAD: behind STREAMS, the first half
	inSort                    // the key, STORE, and the patterns of BY and GET
	inGeoRadius               // the key, STORE and STOREDIST
	inSlot                    // CLUSTER KEYSLOT
	inChannels                // all arguments are channels
	inPatterns                // all arguments are patterns of channels
	inFirst                   // the first argument is a channel
	inSub                     // all arguments behind the subcommand are channels
	inSubPattern              // PUBSUB CHANNELS: a pattern, or none
	inPattern                 // KEYS: a pattern
	inMatch                   // SCAN: behind MATCH
	inTracking                // CLIENT TRACKING: behind PREFIX
	forScripts                // as asKeys, for a user who may run scripts
	aboutScripts              // as nowhere, for a user who may run scripts
)

// Shape says where the names are in a command's reply. Errors of all commands may quote names.
type Shape uint8

const (
	NoNames   Shape = iota
	FirstName       // an array whose first element is a name: BLPOP
	AllNames        // an array of names: KEYS
	EvenNames       // an array of names, each with a number: PUBSUB NUMSUB
	ScanNames       // a cursor and an array of names
	Streams         // an array of arrays that begin with a name, or a map with names as keys: XREAD
)

// places are the commands that a user with a prefix may send.
var places = map[place]string{
	nowhere: `auth hello quit reset ping echo time select lolwut info role wait waitaof lastsave
		multi exec discard unwatch readonly readwrite asking
		command command|count command|docs command|getkeys command|getkeysandflags command|help command|info
		command|list
		acl|whoami acl|cat acl|genpass acl|help config|get config|help
		client|id client|info client|getname client|setname client|setinfo client|reply client|caching client|capa
		client|getredir client|trackinginfo client|no-evict client|no-touch client|help
		cluster|slots cluster|shards cluster|nodes cluster|info cluster|myid cluster|myshardid cluster|replicas
		cluster|slaves cluster|links cluster|help
		object|help xinfo|help xgroup|help memory|help script|help function|help pubsub|help
		slowlog|help latency|help commandlog|help hotkeys|help keyway|help`,
	asKeys: `append bitcount bitfield bitfield_ro bitop bitpos blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax
		bzpopmin copy decr decrby del delex delifeq digest dump exists expire expireat expiretime
		geoadd geodist geohash geopos georadius_ro georadiusbymember_ro geosearch geosearchstore
		get getbit getdel getex getrange getset
		hdel hexists hexpire hexpireat hexpiretime hget hgetall hgetdel hgetex hincrby hincrbyfloat hkeys hlen hmget
		hmset
		hpersist hpexpire hpexpireat hpexpiretime hpttl hrandfield hscan hset hsetex hsetnx hstrlen httl hvals
		incr incrby incrbyfloat lcs lindex linsert llen lmove lmpop lpop lpos lpush lpushx lrange lrem lset ltrim
		memory|usage mget move mset msetex msetnx object|encoding object|freq object|idletime object|refcount
		persist pexpire pexpireat pexpiretime pfadd pfcount pfmerge psetex pttl rename renamenx restore rpop rpoplpush
		rpush rpushx sadd scard sdiff sdiffstore set setbit setex setnx setrange sinter sintercard sinterstore sismember
		smembers smismember smove spop srandmember srem sscan strlen substr sunion sunionstore touch ttl type unlink
		vadd vcard vdim vemb vgetattr vinfo vismember vlinks vrandmember vrange vrem vsetattr vsim watch
		xack xackdel xadd xautoclaim xclaim xdel xdelex xgroup|create xgroup|createconsumer xgroup|delconsumer
		xgroup|destroy xgroup|setid xinfo|consumers xinfo|groups xinfo|stream xlen xpending xrange xrevrange xsetid
		xtrim
		zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard zinterstore zlexcount zmpop zmscore zpopmax zpopmin
		zrandmember zrange zrangebylex zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank
		zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion zunionstore`,
	inStreams:    "xread xreadgroup",
	inSort:       "sort sort_ro",
	inGeoRadius:  "georadius georadiusbymember",
	inSlot:       "cluster|keyslot",
	inChannels:   "subscribe ssubscribe unsubscribe sunsubscribe",
	inPatterns:   "psubscribe punsubscribe",
	inFirst:      "publish spublish",
	inSub:        "pubsub|numsub pubsub|shardnumsub",
	inSubPattern: "pubsub|channels pubsub|shardchannels",
	inPattern:    "keys",
	inMatch:      "scan",
	inTracking:   "client|tracking",
	forScripts:   "eval eval_ro evalsha evalsha_ro fcall fcall_ro",
	aboutScripts: "script|load script|exists",
}

// shapes are the commands whose replies have names.
var shapes = map[Shape]string{
	FirstName: "blpop brpop bzpopmin bzpopmax lmpop blmpop zmpop bzmpop",
	AllNames:  "keys pubsub|channels pubsub|shardchannels",
	EvenNames: "pubsub|numsub pubsub|shardnumsub",
	ScanNames: "scan",
	Streams:   "xread xreadgroup",
}

const (
	ofAllKeys = "it concerns the keys of all users; "
	ofOthers  = "it shows or changes what other users do; send it as a user without a prefix"
	ofLibrary = "all users share the scripts and functions; send it as a user without a prefix"
)

// refusals are why commands are refused, and what to do instead. All others have ofUnknown.
var refusals = map[string]string{
	ofAllKeys + "count your own with SCAN":             "dbsize",
	ofAllKeys + "take one of those that SCAN finds":    "randomkey",
	ofAllKeys + "delete your own with SCAN and UNLINK": "flushall flushdb",
	ofAllKeys + "use SCAN":                             "cluster|countkeysinslot cluster|getkeysinslot clusterscan",
	ofAllKeys + "send it as a user without a prefix": `swapdb pubsub|numpat migrate keyway|locks keyway|hotkeys
		keyway|bigkeys hotkeys|start hotkeys|stop hotkeys|get hotkeys|reset`,
	ofLibrary: `script|flush script|kill script|show script|debug function|load function|delete function|flush
		function|restore function|dump function|list function|stats function|kill`,
	ofOthers: `monitor keyway|users keyway|status keyway|nodes keyway|route keyway|events keyway|clients keyway|config
		keyway|log keyway|slowlog client|list client|kill client|pause client|unpause client|unblock
		slowlog|get slowlog|len slowlog|reset commandlog|get commandlog|len commandlog|reset latency|latest
		latency|history latency|reset latency|doctor latency|graph latency|histogram acl|list acl|users
		acl|getuser acl|dryrun acl|log acl|setuser acl|deluser acl|load acl|save config|set config|resetstat
		config|rewrite memory|purge memory|stats memory|doctor memory|malloc-stats debug`,
}

const (
	ofUnknown = "keyway does not know where its names are; send it as a user without a prefix"
	ofScripts = "a script or function may use any key, so the prefix would not keep it from the keys of others; " +
		"the operator can set scripts: true for the user"
)

// entry is what the table says about a command.
type entry struct {
	place   place
	shape   Shape
	refusal string
}

// table has the entry of each command, by its ID. The commands that nodes describe share one,
// which is refused.
var table = makeTable()

func makeTable() []entry {
	t := make([]entry, command.Count)
	each := func(list string, do func(e *entry)) {
		for name := range strings.FieldsSeq(list) {
			do(&t[lookup(name).ID])
		}
	}
	for p, list := range places {
		each(list, func(e *entry) { e.place = p })
	}
	for s, list := range shapes {
		each(list, func(e *entry) { e.shape = s })
	}
	for why, list := range refusals {
		each(list, func(e *entry) { e.refusal = why })
	}
	return t
}

// lookup returns the command with a name of the table's.
func lookup(name string) *command.Command {
	container, sub, isSub := strings.Cut(name, "|")
	c := command.Lookup([]byte(container))
	if c != nil && isSub {
		c = c.Sub([]byte(sub))
	}
	if c == nil {
		panic("names: no command is called " + name)
	}
	return c
}

// ShapeOf returns the shape of the command's replies.
func ShapeOf(c *command.Command) Shape { return table[c.ID].shape }
