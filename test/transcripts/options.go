package transcripts

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/emulation"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/names"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

const defaultLayout = "cluster a 8192-16383, b 0-8191"

// options are keyway's configuration during a transcript.
type options struct {
	proxy.Options
	log     bool   // the transcript shows keyway's log
	version string // of the nodes' software
}

// defaults are the options of a transcript that names none.
func defaults() options {
	return options{version: "7.0.15", Options: proxy.Options{
		Backend: pool.Config{ConnectTimeout: time.Second, RequestTimeout: time.Second},
		Seed:    1,
	}}
}

// setOptions applies a line of options, such as "hold 3s, integrity 3".
func setOptions(o *options, line string) error {
	for _, item := range strings.Split(line, ", ") {
		name, value, _ := strings.Cut(item, " ")
		n, notNumber := strconv.Atoi(value)
		d, notDuration := time.ParseDuration(value)
		var err error
		switch name {
		case "log":
			o.log = true
		case "version":
			o.version = value
		case "opt_in":
			o.ReadsOptIn = value != "no"
		case "connections":
			o.Connections, err = n, notNumber
		case "integrity":
			o.CheckEvery, err = n, notNumber
		case "exclusive":
			o.Exclusive, err = n, notNumber
		case "client_output":
			o.ClientOutput, err = n, notNumber
		case "workers":
			o.Workers, err = n, notNumber
		case "hold":
			o.Hold, err = d, notDuration
		case "max_lag":
			o.MaxLag, err = d, notDuration
		case "idle_timeout":
			o.IdleTimeout, err = d, notDuration
		case "slower_than":
			o.SlowerThan, err = d, notDuration
		case "request_timeout":
			o.Backend.RequestTimeout, err = d, notDuration
		case "password":
			o.Users, _, err = acl.Make([]acl.Definition{acl.WithPasswords([]string{value})})
		case "keyless":
			o.Keyless = value
		case "locks":
			o.WatchLocks.Observe = true
		case "lock_pattern":
			o.WatchLocks.Patterns = append(o.WatchLocks.Patterns, value)
		case "emulates":
			o.Cluster = emulation.New(value, nil)
		case "reads":
			o.Reads, err = reads(value)
		default:
			err = setRareOption(o, name, value)
		}
		if err != nil {
			return fmt.Errorf("option %q: %w", item, err)
		}
	}
	return nil
}

// setRareOption applies an option that few transcripts name.
func setRareOption(o *options, name, value string) (err error) {
	switch name {
	case "name":
		o.Backend.Name = value
	case "token": // a password that a command prints
		o.Backend.Account = pool.Account{Password: value, Renewed: true}
	case "per_key": // the script with this text
		o.PerKey = lua.NewPerKeyScripts([]lua.PerKey{{SHA: lua.SHA1([]byte(value)), Sum: true}})
	case "prefix": // the default user has it, and the user other has none
		const anything = "on nopass ~* &* +@all"
		o.Users, _, err = acl.Make([]acl.Definition{
			{Name: acl.DefaultName, Rules: anything, Settings: acl.Settings{Prefix: names.New(value, false)}},
			{Name: "other", Rules: anything},
		})
	case "deny":
		o.Deny, err = command.Deny(strings.Fields(value), nil)
	default:
		err = fmt.Errorf("no such option")
	}
	return err
}

func reads(from string) (proxy.Reads, error) {
	r, ok := map[string]proxy.Reads{"master": proxy.FromMaster, "prefer-replica": proxy.PreferReplica,
		"replica": proxy.FromReplica, "nearest": proxy.FromNearest}[from]
	if !ok {
		return 0, fmt.Errorf("reads are from master, prefer-replica, replica or nearest")
	}
	return r, nil
}

func addr(node string) string { return node + ":6379" }

// layout builds the routing table of a line such as "cluster a 8192-16383, b 0-8191".
func layout(line string) (*router.Table, error) {
	kind, rest, _ := strings.Cut(line, " ")
	var nodes []slots.Node
	var owned [][]slots.Range
	sentinel := map[string]bool{}
	for _, item := range strings.Split(rest, ", ") {
		f := strings.Fields(item)
		n := slots.Node{ID: f[0], Addr: addr(f[0]), Master: true}
		var ranges []slots.Range
		for i := 1; i < len(f); i++ {
			switch f[i] {
			case "follows":
				i++
				n.Master, n.Replica, n.Of = false, true, addr(f[i])
			case "roleless": // neither a master nor a replica, as during a failover
				n.Master = false
			case "orphaned": // a replica, and nobody says of which master
				n.Master, n.Replica = false, true
			case "sentinel": // sentinels have reported it as a master
				sentinel[f[0]] = true
			case "also":
				i++
				n.Aliases = append(n.Aliases, f[i])
			default:
				var r slots.Range
				if _, err := fmt.Sscanf(f[i], "%d-%d", &r.First, &r.Last); err != nil {
					return nil, fmt.Errorf("a range of slots such as 0-16383 is wanted, not %q", f[i])
				}
				ranges = append(ranges, r)
			}
		}
		nodes, owned = append(nodes, n), append(owned, ranges)
	}
	return newTable(kind, nodes, owned, sentinel)
}

func newTable(
	kind string, nodes []slots.Node, owned [][]slots.Range, sentinel map[string]bool,
) (*router.Table, error) {
	if kind == "cluster" {
		m, err := slots.NewMap(nodes, owned)
		if err != nil {
			return nil, err
		}
		return router.NewSlots(m), nil
	}
	var masters []router.Node
	var theirs [][]slots.Range
	replicas := make([][]string, len(nodes))
	for i, n := range nodes {
		if n.Master {
			masters = append(masters, router.Node{Name: n.ID, Addr: n.Addr, Master: true, Sentinel: sentinel[n.ID]})
			theirs = append(theirs, owned[i])
		}
	}
	for _, n := range nodes {
		for i, m := range masters {
			if n.Of == m.Addr {
				replicas[i] = append(replicas[i], n.Addr)
			}
		}
	}
	hashed := router.Hashed{Hash: "fnv1a_64", HashTag: "{}", Weights: make([]int, len(masters))}
	for i := range masters {
		hashed.Weights[i] = 1
	}
	var table *router.Table
	var err error
	switch kind {
	case "slots":
		table, err = router.NewStaticSlots(masters, theirs)
	case "ring":
		table, err = router.NewRing(masters, hashed)
	case "modulo":
		table, err = router.NewModulo(masters, hashed)
	default:
		err = fmt.Errorf("no layout is called %q", kind)
	}
	if err != nil {
		return nil, err
	}
	return table.WithReplicas(replicas[:len(masters)]), nil
}
