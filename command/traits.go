package command

import "time"

// Traits are facts about a command that COMMAND does not tell.
type Traits uint32

const (
	// RunsCode is a command that runs code of the user's: its own error replies prove
	// nothing about what was executed.
	RunsCode Traits = 1 << iota
	// TakesScript and TakesSHA are commands whose first argument is the text, or the
	// SHA-1, of a script.
	TakesScript
	TakesSHA
	// CallsFunction is a command whose first argument is the name of a function that may
	// write.
	CallsFunction
	// ChangesConnection is a command that changes the state of the connection it
	// arrives on, or the number of replies on it: no configuration can let it onto a
	// connection that clients share.
	ChangesConnection
	// WhileSubscribed is a command that a RESP2 client with subscriptions may send
	// (server.c, processCommand).
	WhileSubscribed
	// MastersOnly is a read that is not the same on a replica: cursors are good where
	// they come from, and others tell of, or count as, the use of a key.
	MastersOnly
	// OnlyTells is a command for all nodes that changes nothing on any, though Redis
	// does not flag it as a read: the error of one node is then true of the whole.
	OnlyTells
	// MayReplicate is a command that is no write, and yet replicas may get it: Redis has
	// a flag for it that COMMAND does not tell.
	MayReplicate
	// Publishes is a command that sends a message, Sharded one whose channels belong
	// to slots.
	Publishes
	Sharded
	// Executes is EXEC: it does what was queued before it.
	Executes
	// KeepsCaching is a command that CLIENT CACHING outlasts (networking.c, resetClient).
	KeepsCaching
	// AboutCluster is a command that only a cluster's node answers.
	AboutCluster
	// AllSecret is a command whose arguments are all secret, SecretBehindAuth one
	// with a user and a password behind the word AUTH.
	AllSecret
	SecretBehindAuth
	// GroupsKeys is a command that with GROUPBY makes one reply out of many keys.
	GroupsKeys
)

// Is reports whether the command has any of the traits.
func (c *Command) Is(t Traits) bool { return c.Traits&t != 0 }

// Unproven reports whether the command's own error replies prove nothing about
// what was executed: a script or a module may write and then answer MOVED.
func (c *Command) Unproven() bool { return c.Is(RunsCode) || c.Has(Module) }

// InMulti says what becomes of a command between MULTI and EXEC.
type InMulti uint8

const (
	AsHandled          InMulti = iota // what its Handling says
	ActsAtOnce                        // it is not queued (server.c, processCommand)
	QueuesItself                      // its handler queues it
	NodeCanToo                        // keyway answers it elsewhere, a node does here
	NodeOfKeys                        // as ByKey, though what it names is no key
	SelectsDatabase                   // SELECT
	AnsweredAfter                     // keyway answers it once the node has executed the others
	AnsweredAfterAlone                // the same where there is one master; elsewhere as handled
)

// ActsInMulti reports whether the command's handler gets it even between MULTI and
// EXEC.
func (c *Command) ActsInMulti() bool { return c.InMulti == ActsAtOnce || c.InMulti == QueuesItself }

// Timeout says where the timeout of a command that blocks stands.
type Timeout uint8

const (
	noTimeout    Timeout = iota
	FirstSeconds         // it is the first argument
	LastSeconds          // it is the last argument
	BlockOption          // XREAD: it is behind BLOCK, in milliseconds; without it the command does not block
)

// Timeout returns the position of the command's timeout, 0 if it has none, and its
// unit.
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

// streamTimeout returns the position of XREAD's or XREADGROUP's timeout, 0 for none.
// It walks over the options as Redis does (t_stream.c, xreadCommand): a group or a
// consumer may be called "block" or "streams".
func streamTimeout(a Args) (pos int) {
	for i := 1; i+1 < a.Len(); i++ {
		switch arg := a.Arg(i); {
		case EqualFold(arg, "block"):
			i++
			pos = i // the last one counts
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

// IsSecret reports whether the i-th argument is a password, or the user that goes
// with it.
func (c *Command) IsSecret(a Args, i int) bool {
	switch {
	case i == 0:
		return false
	case c.Is(AllSecret):
		return true
	case c.Is(SecretBehindAuth):
		return EqualFold(a.Arg(i-1), "auth") || i > 1 && EqualFold(a.Arg(i-2), "auth")
	}
	return false
}

// Action is what keyway does itself about a command: package proxy has a handler for
// each.
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

	// Actions is the number of actions.
	Actions int = iota
)
