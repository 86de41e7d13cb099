package command

import (
	"fmt"
	"strings"
)

// RequestPolicy and ResponsePolicy are COMMAND's tips
// (https://redis.io/docs/latest/develop/reference/command-tips/), under their
// own names.
type RequestPolicy uint8

const (
	RequestDefault RequestPolicy = iota
	MultiShard
	AllShards
	RequestSpecial
)

// ResponsePolicy says how the replies of several nodes become one.
type ResponsePolicy uint8

const (
	ResponseDefault ResponsePolicy = iota
	AllSucceeded
	AggSum
	AggMin
	ResponseSpecial
	aggByName // entries in the order of their keys; see mergeByName
)

// Handling is what keyway does with a command.
type Handling uint8

const (
	Refused    Handling = iota // no proxy may carry it, unless the config allows it
	NotYet                     // will be carried, is not yet
	ByKey                      // goes to the node of its keys
	Split                      // one part for each place its keys live in
	Block                      // goes to the node of its keys, and may block there
	AnyMaster                  // needs no key: any node can answer
	AllMasters                 // every node must hear it; the replies are merged
	Local                      // the proxy answers
	Whole                      // needs all data at once: goes to the only master, where there is one
)

func (h Handling) String() string {
	return [...]string{"refused", "not yet", "carried", "split", "blocking", "any node", "merged", "answered", "one node"}[h]
}

// unprovenNames are the commands that run code of the user's.
var unprovenNames = map[string]bool{
	"eval": true, "evalsha": true, "eval_ro": true, "evalsha_ro": true, "fcall": true, "fcall_ro": true,
}

// handlings are the commands that are not simply carried by their keys.
var handlings = func() map[string]Handling {
	m := map[string]Handling{}
	for h, names := range map[Handling]string{
		Split: "mget mset del unlink exists touch",
		Local: `ping echo quit reset time select auth hello role wait waitaof scan config|get multi exec discard watch unwatch
			client|id client|getname client|setname client|setinfo client|info client|list client|unblock client|help client|getredir client|no-evict client|no-touch client|reply client|kill client|pause client|unpause client|tracking client|trackinginfo client|caching client|capa
			monitor slowlog|get slowlog|len slowlog|reset slowlog|help latency|latest latency|history latency|reset latency|doctor latency|graph latency|histogram latency|help
			commandlog|get commandlog|len commandlog|reset script|show
			script|kill function|kill function|stats acl|whoami
			subscribe psubscribe ssubscribe unsubscribe punsubscribe sunsubscribe publish spublish`,
		AllMasters: `info dbsize keys flushall flushdb randomkey lastsave script|load script|exists script|flush
			function|load function|delete function|flush function|restore memory|purge swapdb
			pubsub|channels pubsub|shardchannels pubsub|numpat pubsub|numsub pubsub|shardnumsub`,
		AnyMaster: `command command|count command|info command|list command|docs command|getkeys
			command|getkeysandflags command|help lolwut script|help object|help xinfo|help xgroup|help memory|help pubsub|help config|help commandlog|help
			function|list function|dump function|help acl|cat acl|genpass acl|help memory|doctor memory|stats memory|malloc-stats`,
		ByKey:   "clusterscan",
		Block:   "blpop brpop blmove brpoplpush blmpop bzpopmin bzpopmax bzmpop blmovem xread xreadgroup",
		NotYet:  "hotkeys himport",
		Refused: "readonly readwrite asking script|debug pfselftest pfdebug migrate restore-asking",
	} {
		for _, n := range strings.Fields(names) {
			m[n] = h
		}
	}
	return m
}()

// notYetContainers are not carried yet, subcommands and all, unless a
// subcommand is named in handlings.
var notYetContainers = map[string]bool{"acl": true, "memory": true, "client": true, "hotkeys": true, "himport": true}

func handlingOf(c *Command) Handling {
	if h, ok := handlings[c.Name]; ok {
		return h
	}
	container, _, _ := strings.Cut(c.Name, "|")
	switch {
	case c.Keyed():
		return ByKey
	case notYetContainers[container] && !(container == "acl" && c.Has(Admin)):
		return NotYet
	}
	return Refused
}

// neverShared change the state of the connection they arrive on, or the number
// of replies on it: not even the config can let them onto a connection that
// clients share.
var neverShared = map[string]bool{
	"monitor": true, "sync": true, "psync": true, "replconf": true, "asking": true, "readonly": true, "readwrite": true,
	"multi": true, "exec": true, "discard": true, "watch": true, "unwatch": true, "script|debug": true,
	"subscribe": true, "psubscribe": true, "ssubscribe": true, "unsubscribe": true, "punsubscribe": true, "sunsubscribe": true,
	"himport": true, "debug": true, "waitaof": true,
}

// refusals are reasons of commands that are refused for one of their own.
var refusals = map[string]string{
	"migrate":        "it would take keys to where keyway does not look for them; move slots with redis-cli --cluster reshard",
	"restore-asking": "it is for nodes that move a slot between them",
	"sync":           "keyway has no data of its own to replicate; replicate from the nodes",
	"psync":          "keyway has no data of its own to replicate; replicate from the nodes",
}

// NeverShared reports whether the command changes the state of the connection it
// arrives on, so that no configuration can allow it.
func (c *Command) NeverShared() bool {
	container, _, _ := strings.Cut(c.Name, "|")
	return neverShared[c.Name] || neverShared[container]
}

// Allow returns the set of command IDs that the given names let pass: a command,
// a container with all its subcommands, or "container|subcommand".
func Allow(names []string) (map[int]bool, error) {
	ids := map[int]bool{}
	for _, name := range names {
		lower := strings.ToLower(strings.ReplaceAll(name, " ", "|"))
		container, sub, _ := strings.Cut(lower, "|")
		c := Lookup([]byte(container))
		if c != nil && sub != "" {
			c = c.Sub([]byte(sub))
		}
		if c == nil {
			return nil, fmt.Errorf("no command is called %q", name)
		}
		if c.NeverShared() {
			return nil, fmt.Errorf("%q changes the state of the connection it arrives on, which clients share; it cannot be allowed", name)
		}
		if c.Handling == NotYet && len(c.Subs) == 0 && c.Has(Blocking|PubSub) {
			return nil, fmt.Errorf("%q is not supported yet; it cannot be allowed", name)
		}
		ids[c.ID] = true
		for i := range c.Subs {
			ids[c.Subs[i].ID] = true
		}
	}
	return ids, nil
}
