package command

import "time"

// Traits are facts about a command that COMMAND does not report.
type Traits uint32

const (
	// RunsCode: the command executes a user's script or function. Its error replies do not
	// prove that nothing was executed.
	RunsCode Traits = 1 << iota
	// TakesScript: the first argument is the text of a script. TakesSHA: it is the SHA-1
	// of a script.
	TakesScript
	TakesSHA
	// CallsFunction: the first argument is the name of a function that may write.
	CallsFunction
	// ChangesConnection: the command changes the state of its connection, or the number of
	// replies on it. No configuration can allow it on a connection that clients share.
	ChangesConnection
	// WhileSubscribed: a RESP2 client with subscriptions may send the command (server.c,
	// processCommand).
	WhileSubscribed
	// MastersOnly: the command is a read, but a replica must not answer it. A cursor is
	// valid only on the node that returned it. Other such commands return, or update, when
	// a key was last used.
	MastersOnly
	// OnlyTells: the command is sent to all nodes and changes nothing, although Redis does
	// not flag it as a read. The error of one node is then correct for the whole command.
	OnlyTells
	// MayReplicate: the command is not a write, but Redis may send it to replicas. COMMAND
	// does not report Redis's flag for that.
	MayReplicate
	// Publishes: the command publishes a message. Sharded: its channels belong to slots.
	Publishes
	Sharded
	// Executes: the command executes the queued ones. Only EXEC has this trait.
	Executes
	// KeepsCaching: the command does not end the effect of CLIENT CACHING (networking.c,
	// resetClient).
	KeepsCaching
	// AboutCluster: only the nodes of a cluster answer the command.
	AboutCluster
	// AllSecret: all arguments are secret. SecretBehindAuth: the user and password after
	// the word AUTH are. SecretBehindSub: those behind the subcommand are.
	AllSecret
	SecretBehindAuth
	SecretBehindSub
	// GroupsKeys: with GROUPBY, the command computes one reply from many keys.
	GroupsKeys
	// MeetsAllKeys: the command is sent to all masters and must meet each key, wherever it is.
	MeetsAllKeys
	// SwapsDatabases: afterwards keys are in other databases.
	SwapsDatabases
	// ReadsValue: the reply is the whole value of the command's only key, and depends on nothing else.
	ReadsValue
)

// Is reports whether the command has any of the traits.
func (c *Command) Is(t Traits) bool { return c.Traits&t != 0 }

// Unproven reports whether the command's error replies do not prove that nothing was
// executed: a script or a module may write and then answer MOVED.
func (c *Command) Unproven() bool { return c.Is(RunsCode) || c.Has(Module) }

// InMulti says what keyway does with a command between MULTI and EXEC.
type InMulti uint8

const (
	AsHandled          InMulti = iota // as its Handling says
	ActsAtOnce                        // its handler gets it and it is not queued (server.c, processCommand)
	QueuesItself                      // its handler gets it and queues it
	NodeCanToo                        // a node answers it; outside MULTI keyway does
	NodeOfKeys                        // like ByKey, although its argument is a channel, not a key
	SelectsDatabase                   // SELECT
	AnsweredAfter                     // keyway answers it after the node has executed the queued commands
	AnsweredAfterAlone                // like AnsweredAfter if there is one master, else like AsHandled
)

// ActsInMulti reports whether the command's handler gets it even between MULTI and
// EXEC.
func (c *Command) ActsInMulti() bool { return c.InMulti == ActsAtOnce || c.InMulti == QueuesItself }

// Timeout says where a blocking command has its timeout.
type Timeout uint8

const (
	noTimeout    Timeout = iota
	FirstSeconds         // the first argument, in seconds
	LastSeconds          // the last argument, in seconds
	BlockOption          // XREAD: after BLOCK, in milliseconds; without BLOCK the command does not block
)

// Timeout returns the position and unit of the command's timeout. The position is 0 if it
// has none.
func (c *Command) Timeout(a Args) (pos int, unit time.Duration) {
	switch c.timeout {
	case FirstSeconds:
		return 1, time.Second
	case LastSeconds:
		return a.Len() - 1, time.Second
	case BlockOption:
		return streamTimeout(a), time.Millisecond
	}
	return 0, 0
}

// streamTimeout returns the position of the timeout of XREAD or XREADGROUP, or 0. It parses
// the options as Redis does (t_stream.c, xreadCommand), because a group or a consumer may
// be called "block" or "streams".
func streamTimeout(a Args) (pos int) {
	for i := 1; i+1 < a.Len(); i++ {
		switch arg := a.Arg(i); {
		case EqualFold(arg, "block"):
			i++
			pos = i // the last BLOCK is the one that counts
		case EqualFold(arg, "count"):
			i++
		case EqualFold(arg, "group"):
			i += 2
		case EqualFold(arg, "streams"):
			return pos
		}
	}
	return pos
}

// IsSecret reports whether the i-th argument is a password, the name of a user, or a rule.
func (c *Command) IsSecret(a Args, i int) bool {
	switch {
	case i == 0:
		return false
	case c.Is(AllSecret), c.Is(SecretBehindSub) && i > 1:
		return true
	case c.Is(SecretBehindAuth):
		return EqualFold(a.Arg(i-1), "auth") || i > 1 && EqualFold(a.Arg(i-2), "auth")
	}
	return false
}

// Redacted is shown instead of a secret argument (server.c, redactClientCommandArgument).
const Redacted = "(redacted)"

// Action is what keyway itself does for a command. Package proxy has a handler for each
// action.
type Action uint8

const (
	NoAction Action = iota
	DoSort
	DoWait
	DoScriptLoad
	DoScriptExists
	DoScriptFlush
	DoScriptShow
	DoRunning
	DoFCall
	DoFunctionLoad
	DoFunctionDelete
	DoFunctionFlush
	DoFunctionRestore
	DoFunctionStats
	DoFunctionList
	DoFunctionDump
	DoMulti
	DoExec
	DoDiscard
	DoWatch
	DoUnwatch
	DoSubscribe
	DoPSubscribe
	DoSSubscribe
	DoUnsubscribe
	DoPUnsubscribe
	DoSUnsubscribe
	DoPublish
	DoNumSub
	DoPing
	DoEcho
	DoTime
	DoQuit
	DoReset
	DoSelect
	DoAuth
	DoHello
	DoRole
	DoWhoAmI
	DoUsers
	DoUserList
	DoUserGet
	DoUserDryRun
	DoUserLog
	DoUserCategories
	DoUserSet
	DoUserDelete
	DoUserLoad
	DoUserSave
	DoReadOnly
	DoReadWrite
	DoAsking
	DoClientID
	DoClientGetName
	DoClientSetName
	DoClientSetInfo
	DoClientInfo
	DoClientList
	DoClientHelp
	DoClientKill
	DoClientPause
	DoClientUnpause
	DoClientUnblock
	DoClientTrackingInfo
	DoClientGetRedir
	DoClientNoEvict
	DoClientNoTouch
	DoClientReply
	DoClientTracking
	DoClientCaching
	DoClientCapa
	DoClientImportSource
	DoInfo
	DoScan
	DoConfigGet
	DoConfigSet
	DoConfigResetStat
	DoMonitor
	DoSlowLogGet
	DoSlowLogLen
	DoSlowLogReset
	DoSlowLogHelp
	DoCommandLogGet
	DoCommandLogLen
	DoCommandLogReset
	DoLatencyLatest
	DoLatencyHistory
	DoLatencyReset
	DoLatencyDoctor
	DoLatencyGraph
	DoLatencyHistogram
	DoLatencyHelp
	DoClusterSlots
	DoClusterShards
	DoClusterNodes
	DoClusterInfo
	DoClusterMyID
	DoClusterKeySlot
	DoKeysInSlot
	DoClusterReplicas
	DoClusterFailureReports
	DoClusterLinks
	DoClusterHelp
	DoHotKeysStart
	DoHotKeysStop
	DoHotKeysGet
	DoHotKeysReset
	DoHotKeysHelp
	DoKeywayHelp
	DoKeywayConsole
	DoKeywayLocks
	DoKeywayHotKeys
	DoKeywayBigKeys
	DoKeywayUsers
	DoKeywaySlowLog

	// Actions is the number of actions.
	Actions int = iota
)
