package config

import (
	"fmt"
	"slices"
	"time"
)

// Locks configures locks.
type Locks struct {
	Observe  bool     `yaml:"observe"`  // whether keyway watches who holds which lock
	Patterns []string `yaml:"patterns"` // globs of keys that are locks; each has figures of its own

	Scripts []LockScript `yaml:"scripts"` // scripts that keyway does not know
	Quorum  []QuorumRule `yaml:"quorum"`
}

// LockScript names a script, by its SHA-1 or its text, and says what it does with the lock
// KEYS[1]; see quorum.Script.
type LockScript struct {
	SHA   string `yaml:"sha"`
	Text  string `yaml:"text"`
	Does  string `yaml:"does"`  // acquire, renew, release, ask
	Token int    `yaml:"token"` // the number of an ARGV
	Lease int    `yaml:"lease"` // the number of an ARGV; 0: it sets none
	Unit  string `yaml:"unit"`  // of the lease: ms, s
	Again bool   `yaml:"again"` // a client that has the lock acquires it again

	// What it returns if it has done that, if another has the lock, and if nobody has it.
	Done  string `yaml:"done"`
	Other string `yaml:"other"`
	None  string `yaml:"none"`
}

// defaultLockScript has the values of the keys that a declaration leaves out.
var defaultLockScript = LockScript{Token: 1, Unit: "ms", Done: "1", Other: "0"}

// QuorumRule says which keys are locks on a majority of nodes that are not in the layout.
type QuorumRule struct {
	Match    string        `yaml:"match"` // a glob pattern
	Nodes    []string      `yaml:"nodes"` // addresses
	Login                  // see LoginOfLocks
	TLS      *NodeTLS      `yaml:"tls"` // see TLSOfLocks
	Timeout  time.Duration `yaml:"timeout"`
	Drift    float64       `yaml:"drift"` // by which part two clocks may differ in their speed
	MaxLease time.Duration `yaml:"max_lease"`
	Fencing  bool          `yaml:"fencing"`
}

// defaultQuorumRule has the values of the keys that a rule leaves out.
var defaultQuorumRule = QuorumRule{
	Login: defaultLogin, Timeout: 50 * time.Millisecond, Drift: 0.01, MaxLease: time.Minute,
}

// checkLockAccounts checks that two rules do not have different accounts for a node.
func checkLockAccounts(c *Config) error {
	for i, r := range c.Locks.Quorum {
		for j, addr := range r.Nodes {
			for other := range i {
				mine, _ := LoginOfLocks(c, i)
				theirs, _ := LoginOfLocks(c, other)
				if !mine.same(theirs) && slices.Contains(c.Locks.Quorum[other].Nodes, addr) {
					return c.Errorf(fmt.Sprintf("locks.quorum[%d].nodes[%d]", i, j),
						"write the same username and password in both rules",
						"locks.quorum[%d] has another user or password for %q", other, addr)
				}
			}
		}
	}
	return nil
}

// checkLocks checks the rules. What holds locks holds nothing else: the keys of a layout would
// be lost in the same fault as the locks, and their nodes may have replicas, which forget locks.
func (c *Config) checkLocks() error {
	for i, r := range c.Locks.Quorum {
		path := fmt.Sprintf("locks.quorum[%d]", i)
		switch n := len(r.Nodes); {
		case r.Match == "":
			return c.Errorf(path, `add match: a pattern for the keys of locks, such as "lock:*"`,
				"a rule without match")
		case n < 3 || n%2 == 0:
			return c.Errorf(path, "list 3, 5 or 7 nodes, each on a machine of its own",
				"%d nodes, and a majority needs an odd number of at least 3", n)
		case r.Timeout < time.Millisecond || r.Timeout > 10*time.Second:
			return c.Errorf(path+".timeout", "write a duration from 1ms to 10s, such as 50ms", "out of range")
		case r.Drift < 0 || r.Drift > 0.5:
			return c.Errorf(path+".drift", "write a number from 0 to 0.5, such as 0.01", "out of range")
		case r.MaxLease < time.Second || r.MaxLease > 24*time.Hour:
			return c.Errorf(path+".max_lease", "write a duration from 1s to 24h, such as 60s", "out of range")
		case r.MaxLease <= 2*r.Timeout:
			return c.Errorf(path+".max_lease", "write more than twice the timeout", "%s, and the timeout is %s",
				r.MaxLease, r.Timeout)
		}
		same := func(o QuorumRule) bool { return o.Match == r.Match }
		if j := slices.IndexFunc(c.Locks.Quorum[:i], same); j >= 0 {
			return c.Errorf(path+".match", "remove one of the two: only the first is used",
				"locks.quorum[%d] has the same", j)
		}
		for j, addr := range r.Nodes {
			at := fmt.Sprintf("%s.nodes[%d]", path, j)
			if err := c.checkLockNode(at, addr, r.Nodes[:j]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Config) checkLockNode(path, addr string, earlier []string) error {
	if err := c.checkAddr(path, addr, "10.0.1.1:6379"); err != nil {
		return err
	}
	switch {
	case c.isOwn(addr):
		return c.Errorf(path, "write the address of a Redis server", "%q is where keyway itself listens", addr)
	case slices.Contains(earlier, addr):
		return c.Errorf(path, "list each node once: two votes of one node are no majority", "%q is already listed",
			addr)
	case slices.Contains(c.Slots.Seeds, addr):
		return c.Errorf(path, "use Redis servers that hold only locks", "%q is a node of the layout", addr)
	}
	for i, n := range c.Nodes {
		for at, server := range n.servers(fmt.Sprintf("nodes[%d]", i)) {
			if server == addr {
				return c.Errorf(path, "use Redis servers that hold only locks", "%q is also %s", addr, at)
			}
		}
	}
	return nil
}
