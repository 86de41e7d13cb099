package command

import (
	"fmt"
	"strings"
)

// ResponsePolicy says how the replies of several nodes are merged. The exported policies
// are command tips of COMMAND
// (https://redis.io/docs/latest/develop/reference/command-tips/).
type ResponsePolicy uint8

const (
	// ResponseDefault merges the replies of a Split command in the order of its keys. For
	// all other commands it is the first node's reply.
	ResponseDefault ResponsePolicy = iota
	AllSucceeded
	OneSucceeded // for example SCRIPT KILL: a script runs on one node
	AggSum
	AggMin
	AggLogicalAnd
	aggMax
	leastEach // the minimum of each position of arrays of numbers
	arraysOf  // one array of the elements of all replies
	unionOf   // like arraysOf, but each element once
	oneOf     // a random reply that is not null
	busiestOf // FUNCTION STATS of a node that is executing a script or function
	aggByName // entries in the order of their keys; see mergeByName
)

// Handling is what keyway does with a command.
type Handling uint8

const (
	noHandling Handling = iota // only in rows
	Refused                    // no proxy can carry it; the configuration may allow it
	NotYet                     // not implemented yet
	ByKey                      // sent to the node of its keys
	Split                      // one call for each slot or node of its keys
	Block                      // sent to the node of its keys, and may block there
	AnyMaster                  // has no keys: any master can answer
	AllMasters                 // sent to every master; the replies are merged
	Local                      // keyway answers
	Whole                      // needs all data at once: works only if there is one master
)

func (h Handling) String() string {
	return [...]string{
		"", "refused", "not yet", "carried", "split", "blocking", "any node", "merged", "answered", "one node",
	}[h]
}

// NeverShared reports whether the command changes the state of the connection it
// arrives on, so that no configuration can allow it.
func (c *Command) NeverShared() bool { return c.Is(ChangesConnection) }

// called returns the command with the name: a command, a container, or
// "container|subcommand".
func called(name string) (*Command, error) {
	lower := strings.ToLower(strings.ReplaceAll(name, " ", "|"))
	container, sub, _ := strings.Cut(lower, "|")
	c := Lookup([]byte(container))
	if c != nil && sub != "" {
		c = c.Sub([]byte(sub))
	}
	if c == nil {
		return nil, fmt.Errorf("no command is called %q", name)
	}
	return c, nil
}

// Deny returns, by ID, the commands with the given names, which are as for Allow. It returns
// nil if there are none. allowed are the names that are given to Allow.
func Deny(names, allowed []string) ([]bool, error) {
	if len(names) == 0 {
		return nil, nil
	}
	denied := make([]bool, Count)
	for _, name := range names {
		c, err := called(name)
		if err != nil {
			return nil, err
		}
		if c.Has(NoAuth) {
			return nil, fmt.Errorf("%q cannot be denied: clients need it to log in or to leave", name)
		}
		denied[c.ID] = true
		for i := range c.Subs {
			denied[c.Subs[i].ID] = true
		}
	}
	for _, name := range allowed {
		if c, err := called(name); err == nil && denied[c.ID] {
			return nil, fmt.Errorf("%q is allowed and denied", name)
		}
	}
	return denied, nil
}

// Allow returns the IDs of the commands with the given names. A name is a command, a
// container, which includes all its subcommands, or "container|subcommand".
func Allow(names []string) (map[int]bool, error) {
	ids := map[int]bool{}
	for _, name := range names {
		c, err := called(name)
		if err != nil {
			return nil, err
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
