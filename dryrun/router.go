package dryrun

import (
	"bytes"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
)

const (
	maxExamples = 10 // for each command, and for scripts without keys
	maxKey      = 64 // bytes of a key in an example
	// maxCommands bounds the commands that are counted by name. A node's modules may have
	// any number; all others count as one.
	maxCommands = 256
)

// Router places the keys of one worker's commands by a next layout. A command is first
// tried, and then counted once it has begun: a command that has to wait is tried again.
type Router struct {
	table   *router.Table
	calls   uint64 // of the worker, when the router was made
	parted  map[string]*Parted
	keyless keyless

	tried   *Parted // the command of the last Try, if its keys would live apart
	unseen  bool    // the command of the last Try is a script without keys
	example Example // of the last Try; without keys if no example is wanted
}

// keyless are the scripts and functions without keys.
type keyless struct {
	count uint64
	names []string
}

// New returns a router for the next layout. calls is how many commands the worker has
// answered so far.
func New(t *router.Table, calls uint64) *Router {
	return &Router{table: t, calls: calls, parted: map[string]*Parted{}}
}

// Try places the keys of a command that live together now. keys has their positions. Count
// then counts the command.
func (r *Router) Try(cmd *command.Command, a command.Args, keys []int) {
	r.tried, r.unseen, r.example.Keys = nil, false, r.example.Keys[:0]
	if len(keys) == 0 {
		r.tryKeyless(cmd, a)
		return
	}
	first, _ := r.table.Place(a.Arg(keys[0]))
	for _, k := range keys[1:] {
		if group, _ := r.table.Place(a.Arg(k)); group != first {
			r.parts(cmd, a, a.Arg(keys[0]), a.Arg(k))
			return
		}
	}
}

// TryUnits is like Try for a script that treats each unit of size keys alone.
func (r *Router) TryUnits(cmd *command.Command, a command.Args, keys []int, size int) {
	r.tried, r.unseen = nil, false
	for i := 0; i+size <= len(keys) && r.tried == nil; i += size {
		r.Try(cmd, a, keys[i:i+size])
	}
}

// TryTransaction is like Try for an EXEC, or for a WATCH, by the keys of its transaction.
func (r *Router) TryTransaction(cmd *command.Command, a command.Args, k *Keys) {
	r.tried, r.unseen, r.example.Keys = nil, false, r.example.Keys[:0]
	if k != nil && k.router == r && k.apart {
		r.parts(cmd, a, k.first, k.other)
	}
}

// parts records that two keys of the command would live apart.
func (r *Router) parts(cmd *command.Command, a command.Args, key, other []byte) {
	p := r.parted[cmd.Name]
	if p == nil {
		p = r.add(cmd)
	}
	r.tried = p
	if key, other = cut(key), cut(other); p.lacks(key, other) {
		r.example.Keys = []string{string(key), string(other)}
		if r.example.Script = ""; cmd.Is(command.RunsCode) {
			r.example.Script = lua.Name(cmd, a)
		}
	}
}

// others counts the commands beyond maxCommands.
const others = "other commands"

// add begins to count a command.
func (r *Router) add(cmd *command.Command) *Parted {
	name := cmd.Upper()
	if len(r.parted) >= maxCommands {
		name = others
		if p := r.parted[name]; p != nil {
			return p
		}
	}
	p := &Parted{Command: name}
	if name != others {
		r.parted[cmd.Name] = p
	} else {
		r.parted[name] = p
	}
	return p
}

// tryKeyless records a script or function without keys.
func (r *Router) tryKeyless(cmd *command.Command, a command.Args) {
	if !cmd.Is(command.RunsCode) || a.Len() < 2 {
		return
	}
	r.unseen = true
	if len(r.keyless.names) < maxExamples {
		name := lua.Name(cmd, a)
		for _, known := range r.keyless.names {
			if known == name {
				return
			}
		}
		r.keyless.names = append(r.keyless.names, resp.Printable(cut([]byte(name))))
	}
}

// Count counts the command of the last Try, and reports whether the client would get
// CROSSSLOT. addr and name are the client's.
func (r *Router) Count(now time.Time, addr, name string) bool {
	if r.unseen {
		r.keyless.count++
		r.unseen = false
	}
	p := r.tried
	if p == nil {
		return false
	}
	r.tried = nil
	p.Count++
	p.Last = now
	if len(r.example.Keys) > 0 {
		r.example.Time, r.example.Client, r.example.Name = now, addr, name
		p.Examples = append(p.Examples, r.example)
		r.example = Example{}
	}
	return true
}

// lacks reports whether an example with these keys is wanted.
func (p *Parted) lacks(key, other []byte) bool {
	if len(p.Examples) >= maxExamples {
		return false
	}
	for i := range p.Examples {
		if k := p.Examples[i].Keys; k[0] == string(key) && k[1] == string(other) {
			return false
		}
	}
	return true
}

// cut returns the beginning of a key.
func cut(key []byte) []byte { return key[:min(len(key), maxKey)] }

// Keys are the keys of one transaction: those that it watches, and those of its commands.
// The zero value has none.
type Keys struct {
	router       *Router
	group        int32
	first, other []byte // other is set if apart
	apart        bool
}

// Add adds the keys of a command. Those that another router has placed do not count.
func (k *Keys) Add(r *Router, a command.Args, keys []int) {
	if k.router != r {
		*k = Keys{router: r}
	}
	for _, at := range keys {
		key := a.Arg(at)
		group, _ := r.table.Place(key)
		switch {
		case k.first == nil:
			k.first, k.group = bytes.Clone(cut(key)), group
		case group != k.group && !k.apart:
			k.other, k.apart = bytes.Clone(cut(key)), true
		}
	}
}
