package command

import (
	"fmt"
	"strings"
)

// ResponsePolicy says how the replies of several nodes become one. The exported ones
// are COMMAND's tips (https://redis.io/docs/latest/develop/reference/command-tips/).
type ResponsePolicy uint8

const (
	// ResponseDefault is the replies of a Split command in the order of its keys, else the
	// first node's reply.
	ResponseDefault ResponsePolicy = iota
	AllSucceeded
	OneSucceeded // a script runs on one node
	AggSum
	AggMin
	AggLogicalAnd
	aggMax
	leastEach // the least of each place of arrays of numbers
	arraysOf  // one array of the elements of all
	unionOf   // the same, each element once
	oneOf     // one of those that are not null
	busiestOf // FUNCTION STATS of a node that runs something
	infoTexts
	aggByName // entries in the order of their keys; see mergeByName
)

// Handling is what keyway does with a command.
type Handling uint8

const (
	unsaid     Handling = iota // only in rows
	Refused                    // no proxy may carry it, unless the config allows it
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
	return [...]string{
		"", "refused", "not yet", "carried", "split", "blocking", "any node", "merged", "answered", "one node",
	}[h]
}

// NeverShared reports whether the command changes the state of the connection it
// arrives on, so that no configuration can allow it.
func (c *Command) NeverShared() bool { return c.Is(ChangesConnection) }

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
			return nil, fmt.Errorf("%q changes the state of the connection it arrives on, which clients share; "+
				"it cannot be allowed", name)
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
