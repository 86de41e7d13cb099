package command

// row describes one command. It adds to COMMAND's reply, or replaces fields of it.
type row struct {
	name     string
	handling Handling // noHandling: ByKey if the command has keys, else Refused
	action   Action
	traits   Traits
	inMulti  InMulti
	timeout  Timeout
	lock     LockRole
	response ResponsePolicy
	flags    Flags     // in addition to COMMAND's
	keys     keyFinder // for a command whose key specifications are incomplete
	uses     useFinder // for a command whose options say what it does with its keys
	specs    []KeySpec // replace COMMAND's
	// elsewhere finds a key that the command looks for in another database.
	elsewhere func(args Args) (key, db int)
	stride    int // see Command
	tail      int
	refusal   string
	// isOwn says that keyway answers the command and its subcommands even if the nodes are too old for them.
	isOwn bool
}

// rows describe the commands, in no particular order. The traits of a container apply to
// its subcommands too. Its handling applies to subcommands without keys and without a row.
var rows = []row{
	// Keys.
	{name: "mget", handling: Split},
	{name: "mset", handling: Split, stride: 2},
	{name: "del", handling: Split, lock: DeleteLock},
	{name: "unlink", handling: Split, lock: DeleteLock},
	{name: "exists", handling: Split, lock: ExistsLock},
	{name: "touch", handling: Split, traits: MastersOnly},
	{name: "hscan", traits: MastersOnly},
	{name: "sscan", traits: MastersOnly},
	{name: "zscan", traits: MastersOnly},
	{name: "object|freq", traits: MastersOnly},
	{name: "object|idletime", traits: MastersOnly},
	{name: "sort", action: DoSort, keys: sortKeys, uses: sortUses},
	{name: "sort_ro", action: DoSort, keys: firstArg, uses: readsFirst},
	// The cursor of CLUSTERSCAN contains a hash tag of its slot.
	{name: "clusterscan", handling: ByKey, traits: MastersOnly, keys: firstArg, uses: usesNone},
	{name: "move", elsewhere: moveElsewhere},
	{name: "copy", elsewhere: copyElsewhere},
	{name: "pfcount", traits: MayReplicate},
	{name: "bitfield", uses: bitfieldUses},
	{name: "migrate", handling: Refused, keys: migrateKeys, uses: migrateUses, refusal: keysElsewhere},
	{name: "restore-asking", handling: Refused, refusal: "it is for nodes that move a slot between them"},
	{name: "pfselftest", handling: Refused},
	{name: "pfdebug", handling: Refused},
	{name: "himport", handling: NotYet, traits: ChangesConnection},

	// Commands that clients also use for locks.
	{name: "set", lock: SetLock, uses: setUses},
	{name: "get", traits: ReadsValue, lock: GetLock},
	{name: "ttl", lock: TTLLock},
	{name: "pttl", lock: PTTLLock},
	{name: "setnx", lock: SetNXLock},
	{name: "expire", lock: ExpireLock},
	{name: "pexpire", lock: PExpireLock},
	{name: "delifeq", lock: CompareLock},
	{name: "delex", lock: CompareLock, uses: delexUses},

	// Commands that block.
	{name: "blpop", handling: Block, timeout: LastSeconds},
	{name: "brpop", handling: Block, timeout: LastSeconds},
	{name: "blmove", handling: Block, timeout: LastSeconds},
	{name: "blmovem", handling: Block, timeout: LastSeconds},
	{name: "brpoplpush", handling: Block, timeout: LastSeconds},
	{name: "bzpopmin", handling: Block, timeout: LastSeconds},
	{name: "bzpopmax", handling: Block, timeout: LastSeconds},
	{name: "blmpop", handling: Block, timeout: FirstSeconds},
	{name: "bzmpop", handling: Block, timeout: FirstSeconds},
	{name: "xread", handling: Block, timeout: BlockOption},
	{name: "xreadgroup", handling: Block, timeout: BlockOption},
	{name: "wait", handling: Local, action: DoWait, flags: Blocking}, // COMMAND has this flag since Redis 7.2
	{name: "waitaof", handling: Local, action: DoWait, traits: ChangesConnection, response: leastEach},

	// Scripts and functions.
	{name: "eval", traits: RunsCode | TakesScript | MayReplicate, lock: ScriptLock},
	{name: "eval_ro", traits: RunsCode | TakesScript},
	{name: "evalsha", traits: RunsCode | TakesSHA | MayReplicate, lock: ScriptLock},
	{name: "evalsha_ro", traits: RunsCode | TakesSHA},
	{name: "fcall", action: DoFCall, traits: RunsCode | CallsFunction | MayReplicate},
	{name: "fcall_ro", action: DoFCall, traits: RunsCode},
	{name: "script|load", handling: AllMasters, action: DoScriptLoad},
	{name: "script|exists", handling: AllMasters, action: DoScriptExists, inMulti: AnsweredAfterAlone},
	{name: "script|flush", handling: AllMasters, action: DoScriptFlush, inMulti: AnsweredAfterAlone},
	{name: "script|show", handling: Local, action: DoScriptShow},
	{name: "script|kill", handling: Local, action: DoRunning},
	{name: "script|help", handling: AnyMaster},
	{name: "script|debug", handling: Refused, traits: ChangesConnection},
	{name: "function|load", handling: AllMasters, action: DoFunctionLoad},
	{name: "function|delete", handling: AllMasters, action: DoFunctionDelete},
	{name: "function|flush", handling: AllMasters, action: DoFunctionFlush},
	{name: "function|restore", handling: AllMasters, action: DoFunctionRestore},
	{name: "function|kill", handling: Local, action: DoRunning},
	{name: "shutdown", action: DoRunning},
	{name: "function|stats", handling: Local, action: DoFunctionStats, traits: OnlyTells, response: busiestOf},
	{name: "function|list", handling: AnyMaster, action: DoFunctionList, inMulti: AnsweredAfter},
	{name: "function|dump", handling: AnyMaster, action: DoFunctionDump, inMulti: AnsweredAfter},
	{name: "function|help", handling: AnyMaster},

	// Transactions.
	{name: "multi", handling: Local, action: DoMulti, traits: ChangesConnection, inMulti: ActsAtOnce},
	{name: "exec", handling: Local, action: DoExec, traits: ChangesConnection | Executes, inMulti: ActsAtOnce},
	{name: "discard", handling: Local, action: DoDiscard, traits: ChangesConnection, inMulti: ActsAtOnce},
	{name: "watch", handling: Local, action: DoWatch, traits: ChangesConnection, inMulti: ActsAtOnce, lock: WatchLock},
	{name: "unwatch", handling: Local, action: DoUnwatch, traits: ChangesConnection, inMulti: QueuesItself},

	// Pub/sub.
	{name: "subscribe", handling: Local, action: DoSubscribe, traits: ChangesConnection | WhileSubscribed},
	{name: "psubscribe", handling: Local, action: DoPSubscribe, traits: ChangesConnection | WhileSubscribed},
	{name: "ssubscribe", handling: Local, action: DoSSubscribe, traits: ChangesConnection | WhileSubscribed},
	{name: "unsubscribe", handling: Local, action: DoUnsubscribe, traits: ChangesConnection | WhileSubscribed},
	{name: "punsubscribe", handling: Local, action: DoPUnsubscribe, traits: ChangesConnection | WhileSubscribed},
	{name: "sunsubscribe", handling: Local, action: DoSUnsubscribe, traits: ChangesConnection | WhileSubscribed},
	{name: "publish", handling: Local, action: DoPublish, traits: Publishes | MayReplicate, inMulti: NodeCanToo},
	{name: "spublish", handling: Local, action: DoPublish, traits: Publishes | Sharded | MayReplicate,
		inMulti: NodeOfKeys},
	{name: "pubsub|channels", handling: AllMasters, traits: OnlyTells, response: unionOf},
	{name: "pubsub|shardchannels", handling: AllMasters, traits: OnlyTells, response: unionOf},
	// The patterns of all nodes are the same.
	{name: "pubsub|numpat", handling: AllMasters, traits: OnlyTells, response: aggMax},
	{name: "pubsub|numsub", handling: AllMasters, action: DoNumSub, inMulti: AnsweredAfterAlone},
	{name: "pubsub|shardnumsub", handling: AllMasters, action: DoNumSub, traits: Sharded, inMulti: AnsweredAfterAlone},
	{name: "pubsub|help", handling: AnyMaster},

	// The connection.
	{name: "ping", handling: Local, action: DoPing, traits: WhileSubscribed, inMulti: NodeCanToo},
	{name: "echo", handling: Local, action: DoEcho, inMulti: NodeCanToo},
	{name: "time", handling: Local, action: DoTime, inMulti: NodeCanToo},
	{name: "quit", handling: Local, action: DoQuit, traits: WhileSubscribed, inMulti: ActsAtOnce},
	{name: "reset", handling: Local, action: DoReset, traits: WhileSubscribed, inMulti: ActsAtOnce},
	{name: "select", handling: Local, action: DoSelect, inMulti: SelectsDatabase},
	{name: "auth", handling: Local, action: DoAuth, traits: AllSecret},
	{name: "hello", handling: Local, action: DoHello, traits: SecretBehindAuth},
	{name: "role", handling: Local, action: DoRole, inMulti: AnsweredAfter},
	{name: "acl|whoami", handling: Local, action: DoWhoAmI, inMulti: AnsweredAfter},
	{name: "acl|users", handling: Local, action: DoUsers, inMulti: AnsweredAfter},
	{name: "acl|list", handling: Local, action: DoUserList, inMulti: AnsweredAfter},
	{name: "acl|getuser", handling: Local, action: DoUserGet, traits: SecretBehindSub, inMulti: AnsweredAfter},
	{name: "acl|dryrun", handling: Local, action: DoUserDryRun, inMulti: AnsweredAfter},
	{name: "acl|log", handling: Local, action: DoUserLog, inMulti: AnsweredAfter},
	{name: "acl|cat", handling: Local, action: DoUserCategories, inMulti: AnsweredAfter},
	{name: "acl|setuser", handling: Local, action: DoUserSet, traits: SecretBehindSub, inMulti: AnsweredAfter},
	{name: "acl|deluser", handling: Local, action: DoUserDelete, traits: SecretBehindSub, inMulti: AnsweredAfter},
	{name: "acl|load", handling: Local, action: DoUserLoad, inMulti: AnsweredAfter},
	{name: "acl|save", handling: Local, action: DoUserSave, inMulti: AnsweredAfter},
	{name: "acl|help", handling: AnyMaster},
	{name: "acl|genpass", handling: AnyMaster},
	{name: "readonly", handling: Refused, action: DoReadOnly, traits: ChangesConnection},
	{name: "readwrite", handling: Refused, action: DoReadWrite, traits: ChangesConnection},
	{name: "asking", handling: Refused, action: DoAsking, traits: ChangesConnection},

	{name: "client", handling: NotYet, traits: KeepsCaching},
	{name: "client|id", handling: Local, action: DoClientID, inMulti: AnsweredAfter},
	{name: "client|getname", handling: Local, action: DoClientGetName, inMulti: AnsweredAfter},
	{name: "client|setname", handling: Local, action: DoClientSetName, inMulti: AnsweredAfter},
	{name: "client|setinfo", handling: Local, action: DoClientSetInfo, inMulti: AnsweredAfter},
	{name: "client|info", handling: Local, action: DoClientInfo, inMulti: AnsweredAfter},
	{name: "client|list", handling: Local, action: DoClientList, inMulti: AnsweredAfter},
	{name: "client|help", handling: Local, action: DoClientHelp, inMulti: AnsweredAfter},
	{name: "client|kill", handling: Local, action: DoClientKill, inMulti: AnsweredAfter},
	{name: "client|pause", handling: Local, action: DoClientPause, inMulti: AnsweredAfter},
	{name: "client|unpause", handling: Local, action: DoClientUnpause, inMulti: AnsweredAfter},
	{name: "client|unblock", handling: Local, action: DoClientUnblock, inMulti: AnsweredAfter},
	{name: "client|trackinginfo", handling: Local, action: DoClientTrackingInfo, inMulti: AnsweredAfter},
	{name: "client|getredir", handling: Local, action: DoClientGetRedir, inMulti: AnsweredAfter},
	{name: "client|no-evict", handling: Local, action: DoClientNoEvict, inMulti: AnsweredAfter},
	{name: "client|no-touch", handling: Local, action: DoClientNoTouch},
	{name: "client|reply", handling: Local, action: DoClientReply},
	{name: "client|tracking", handling: Local, action: DoClientTracking},
	{name: "client|caching", handling: Local, action: DoClientCaching},
	{name: "client|capa", handling: Local, action: DoClientCapa},
	{name: "client|import-source", handling: Local, action: DoClientImportSource},

	// The server.
	{name: "info", handling: AllMasters, action: DoInfo, inMulti: AnsweredAfter},
	{name: "dbsize", handling: AllMasters},
	{name: "keys", handling: AllMasters, traits: MeetsAllKeys, response: arraysOf},
	{name: "scan", handling: Local, action: DoScan, inMulti: AnsweredAfter},
	{name: "randomkey", handling: AllMasters, response: oneOf},
	{name: "flushall", handling: AllMasters, traits: MeetsAllKeys},
	{name: "flushdb", handling: AllMasters, traits: MeetsAllKeys},
	{name: "swapdb", handling: AllMasters, traits: SwapsDatabases},
	{name: "lastsave", handling: AllMasters, traits: OnlyTells, response: AggMin},
	{name: "memory|purge", handling: AllMasters},
	{name: "memory|doctor", handling: AnyMaster},
	{name: "memory|stats", handling: AnyMaster},
	{name: "memory|malloc-stats", handling: AnyMaster},
	{name: "memory|help", handling: AnyMaster},
	{name: "config|get", handling: Local, action: DoConfigGet, inMulti: AnsweredAfter},
	{name: "config|set", action: DoConfigSet},
	{name: "config|resetstat", action: DoConfigResetStat},
	{name: "config|help", handling: AnyMaster},
	{name: "command", handling: AnyMaster},
	{name: "lolwut", handling: AnyMaster},
	{name: "object|help", handling: AnyMaster},
	{name: "xinfo|help", handling: AnyMaster},
	{name: "xgroup|help", handling: AnyMaster},
	{name: "monitor", handling: Local, action: DoMonitor, traits: ChangesConnection},
	{name: "slowlog|get", handling: Local, action: DoSlowLogGet, inMulti: AnsweredAfter},
	{name: "slowlog|len", handling: Local, action: DoSlowLogLen, inMulti: AnsweredAfter},
	{name: "slowlog|reset", handling: Local, action: DoSlowLogReset, inMulti: AnsweredAfter},
	{name: "slowlog|help", handling: Local, action: DoSlowLogHelp, inMulti: AnsweredAfter},
	{name: "commandlog|get", handling: Local, action: DoCommandLogGet},
	{name: "commandlog|len", handling: Local, action: DoCommandLogLen},
	{name: "commandlog|reset", handling: Local, action: DoCommandLogReset},
	{name: "commandlog|help", handling: AnyMaster},
	{name: "latency|latest", handling: Local, action: DoLatencyLatest, inMulti: AnsweredAfter},
	{name: "latency|history", handling: Local, action: DoLatencyHistory, inMulti: AnsweredAfter},
	{name: "latency|reset", handling: Local, action: DoLatencyReset, inMulti: AnsweredAfter},
	{name: "latency|doctor", handling: Local, action: DoLatencyDoctor, inMulti: AnsweredAfter},
	{name: "latency|graph", handling: Local, action: DoLatencyGraph, inMulti: AnsweredAfter},
	{name: "latency|histogram", handling: Local, action: DoLatencyHistogram, inMulti: AnsweredAfter},
	{name: "latency|help", handling: Local, action: DoLatencyHelp, inMulti: AnsweredAfter},
	{name: "hotkeys", isOwn: true},
	{name: "hotkeys|start", handling: Local, action: DoHotKeysStart, inMulti: AnsweredAfter},
	{name: "hotkeys|stop", handling: Local, action: DoHotKeysStop, inMulti: AnsweredAfter},
	{name: "hotkeys|get", handling: Local, action: DoHotKeysGet, inMulti: AnsweredAfter},
	{name: "hotkeys|reset", handling: Local, action: DoHotKeysReset, inMulti: AnsweredAfter},
	{name: "hotkeys|help", handling: Local, action: DoHotKeysHelp, inMulti: AnsweredAfter},
	{name: "debug", traits: ChangesConnection},
	{name: "replconf", traits: ChangesConnection},
	{name: "sync", traits: ChangesConnection, refusal: noData},
	{name: "psync", traits: ChangesConnection, refusal: noData},

	// keyway's own.
	{name: "keyway|help", handling: Local, action: DoKeywayHelp, inMulti: AnsweredAfter},
	{name: "keyway|status", handling: Local, action: DoKeywayConsole, inMulti: AnsweredAfter},
	{name: "keyway|nodes", handling: Local, action: DoKeywayConsole, inMulti: AnsweredAfter},
	{name: "keyway|route", handling: Local, action: DoKeywayConsole, inMulti: AnsweredAfter},
	{name: "keyway|events", handling: Local, action: DoKeywayConsole, inMulti: AnsweredAfter},
	{name: "keyway|clients", handling: Local, action: DoKeywayConsole, inMulti: AnsweredAfter},
	{name: "keyway|config", handling: Local, action: DoKeywayConsole, inMulti: AnsweredAfter},
	{name: "keyway|log", handling: Local, action: DoKeywayConsole, inMulti: AnsweredAfter},
	{name: "keyway|locks", handling: Local, action: DoKeywayLocks, inMulti: AnsweredAfter},
	{name: "keyway|hotkeys", handling: Local, action: DoKeywayHotKeys, inMulti: AnsweredAfter},
	{name: "keyway|bigkeys", handling: Local, action: DoKeywayBigKeys, inMulti: AnsweredAfter},
	{name: "keyway|users", handling: Local, action: DoKeywayUsers, inMulti: AnsweredAfter},
	{name: "keyway|slowlog", handling: Local, action: DoKeywaySlowLog, inMulti: AnsweredAfter},

	// Commands of cluster clients. keyway answers them if it emulates a cluster.
	{name: "cluster", traits: AboutCluster},
	{name: "cluster|slots", action: DoClusterSlots},
	{name: "cluster|shards", action: DoClusterShards},
	{name: "cluster|nodes", action: DoClusterNodes},
	{name: "cluster|info", action: DoClusterInfo},
	{name: "cluster|myid", action: DoClusterMyID},
	{name: "cluster|myshardid", action: DoClusterMyID},
	{name: "cluster|keyslot", action: DoClusterKeySlot},
	{name: "cluster|countkeysinslot", action: DoKeysInSlot},
	{name: "cluster|getkeysinslot", action: DoKeysInSlot},
	{name: "cluster|replicas", action: DoClusterReplicas},
	{name: "cluster|slaves", action: DoClusterReplicas},
	{name: "cluster|count-failure-reports", action: DoClusterFailureReports},
	{name: "cluster|links", action: DoClusterLinks},
	{name: "cluster|help", action: DoClusterHelp},

	// Modules: RedisJSON, RedisTimeSeries and RedisBloom as of Redis Stack 7.4
	// (https://redis.io/docs/latest/commands/). Their key specifications are written for a
	// single server. They may have only the first of several keys, or none for a
	// command that searches all keys.
	{name: "json.mget", handling: Split, specs: []KeySpec{keyAt(1, -2, 1)}, stride: 1, tail: 1},
	{name: "json.mset", handling: Split, specs: []KeySpec{keyAt(1, -1, 3)}, stride: 3, response: AllSucceeded},
	{name: "cms.merge", handling: ByKey, specs: []KeySpec{keyAt(1, 0, 1), countAt(2)}},
	{name: "tdigest.merge", handling: ByKey, specs: []KeySpec{keyAt(1, 0, 1), countAt(2)}},
	{name: "ts.madd", handling: Split, specs: []KeySpec{keyAt(1, -1, 3)}, stride: 3},
	{name: "ts.createrule", handling: ByKey, specs: []KeySpec{keyAt(1, 1, 1)}},
	{name: "ts.deleterule", handling: ByKey, specs: []KeySpec{keyAt(1, 1, 1)}},
	{name: "ts.mget", handling: AllMasters, specs: noKeys, response: aggByName},
	{name: "ts.mrange", handling: AllMasters, specs: noKeys, traits: GroupsKeys, response: aggByName,
		refusal: groupsOfAll},
	{name: "ts.mrevrange", handling: AllMasters, specs: noKeys, traits: GroupsKeys, response: aggByName,
		refusal: groupsOfAll},
	{name: "ts.queryindex", handling: AllMasters, specs: noKeys, response: aggByName},

	// In RediSearch only the suggestion commands have ordinary keys. All other commands
	// use an index, and each node has its own.
	{name: "ft.sugadd", handling: ByKey},
	{name: "ft.sugget", handling: ByKey},
	{name: "ft.sugdel", handling: ByKey},
	{name: "ft.suglen", handling: ByKey},
}

var noKeys = []KeySpec{}

const (
	keysElsewhere = "it would take keys to where keyway does not look for them; " +
		"move slots with redis-cli --cluster reshard"
	noData      = "keyway has no data of its own to replicate; replicate from the nodes"
	groupsOfAll = "GROUPBY makes one series out of those of several nodes; " +
		"leave it out, or give all of these keys a common node"
	indexOfOneNode = "an index holds only the documents of its own node, and there are several nodes; " +
		"send it to each node directly, or put the data on one node"
)

// rowOf contains the rows by name.
var rowOf = func() map[string]*row {
	m := make(map[string]*row, len(rows))
	for i := range rows {
		m[rows[i].name] = &rows[i]
	}
	return m
}()

// apply sets the command's fields from its row, if it has one. container is nil unless the
// command is a subcommand.
func (c *Command) apply(container *Command) {
	named := rowOf[c.Name]
	r := &row{}
	if named != nil {
		r = named
	}
	c.Action, c.Traits, c.InMulti, c.timeout, c.finder = r.action, r.traits, r.inMulti, r.timeout, r.keys
	c.uses, c.elsewhere = r.uses, r.elsewhere
	c.Lock = r.lock
	c.Flags |= r.flags
	c.Stride, c.Tail, c.Refusal = max(r.stride, 1), r.tail, r.refusal
	if r.response != ResponseDefault {
		c.Response = r.response
	}
	if r.specs != nil {
		c.Specs = usedBy(c.Flags, r.specs)
	}
	inherited, isOwn := noHandling, r.isOwn
	if container != nil {
		c.Traits |= container.Traits
		if of := rowOf[container.Name]; of != nil {
			inherited, isOwn = of.handling, isOwn || of.isOwn
		}
	}
	if isOwn {
		c.Since = ""
	}
	switch {
	case r.handling != noHandling:
		c.Handling = r.handling
	case c.Keyed():
		c.Handling = ByKey
	case named == nil && inherited != noHandling:
		c.Handling = inherited
	default:
		c.Handling = Refused
	}
	c.Single = c.single()
}
