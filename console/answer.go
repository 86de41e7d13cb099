package console

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
)

// Pool is what can be asked about a pool. Its functions may be called from any goroutine. Only those of Lists ask
// threads.
type Pool struct {
	Lists
	State    func() overview.State
	Events   func(count int) []overview.Event // the newest first
	Route    func(key []byte) router.Explanation
	Settings func() []Setting // of the running configuration, without secrets
	Level    func() string    // of the log
	// SetLevel changes the level of the log for a user at an address. The user is empty at the console.
	SetLevel func(level, user, addr string) error
}

// Setting is a key of the configuration and its value.
type Setting struct{ Key, Value string }

const defaultEvents = 20

// keyway describes KEYWAY.
var keyway = command.Lookup([]byte("keyway"))

// Question is a KEYWAY command.
type Question struct {
	Args     [][]byte // without KEYWAY
	Protocol resp.Version
	User     string // who asks; empty at the console
	Addr     string
	IsOpen   bool // anybody can ask
}

// Answer returns the reply.
func (p *Pool) Answer(q Question) []byte {
	args, v := q.Args, q.Protocol
	cmd := keyway.Sub(args[0])
	switch {
	case cmd == nil:
		return resp.AppendError(nil, errtext.UnknownSub("keyway", args[0]))
	case !cmd.ArityOK(len(args) + 1):
		return resp.AppendError(nil, errtext.Arity(cmd))
	}
	name := strings.ToLower(string(args[0]))
	if reply, ok := p.list(name, q); ok {
		return reply
	}
	var answer any
	var err error
	switch name {
	case "status":
		answer = statusOf(p.State())
	case "nodes":
		answer = p.State().Nodes
	case "route":
		routes := make([]router.Explanation, 0, len(args)-1)
		for _, key := range args[1:] {
			routes = append(routes, p.Route(key))
		}
		answer = routes
	case "events":
		answer, err = p.events(args[1:])
	case "config":
		return p.appendConfig(v, args[1:])
	case "log":
		return p.log(q)
	}
	if err != nil {
		return resp.AppendError(nil, "ERR "+err.Error())
	}
	return Append(nil, v, answer)
}

// status is State without its lists.
type status struct {
	Version    string             `json:"version"`
	Instance   string             `json:"instance"`
	Layout     string             `json:"layout"`
	Epoch      int64              `json:"epoch"`
	Uptime     float64            `json:"uptime_seconds"`
	Listen     []string           `json:"listen"`
	Threads    int                `json:"threads"`
	Nodes      int                `json:"nodes"`
	NodesReady int                `json:"nodes_ready"`
	Now        overview.Figures   `json:"now"`
	Switch     *overview.Switch   `json:"switch,omitempty"`
	Problems   []overview.Problem `json:"problems"`
}

func statusOf(s overview.State) status {
	return status{
		Version: s.Version, Instance: s.Instance, Layout: s.Layout, Epoch: s.Epoch, Uptime: s.Uptime, Listen: s.Listen,
		Threads: len(s.Threads), Nodes: len(s.Nodes), Now: s.Now, Switch: s.Switch, Problems: s.Problems,
		NodesReady: s.NodesReady(),
	}
}

// events answers EVENTS [COUNT count] [KIND kind].
func (p *Pool) events(args [][]byte) ([]overview.Event, error) {
	count, kind := defaultEvents, ""
	for ; len(args) > 1; args = args[2:] {
		switch {
		case command.EqualFold(args[0], "count"):
			n, err := strconv.Atoi(string(args[1]))
			if err != nil || n < 1 {
				return nil, errCount
			}
			count = n
		case command.EqualFold(args[0], "kind"):
			if kind = strings.ToLower(string(args[1])); !slices.Contains(overview.Kinds, kind) {
				return nil, errKind
			}
		default:
			return nil, errSyntax
		}
	}
	if len(args) > 0 {
		return nil, errSyntax
	}
	return overview.OfKind(kind, count, p.Events(2*overview.MaxEvents)), nil // those of the pool and of the process
}

// appendConfig answers CONFIG [pattern] with a map.
func (p *Pool) appendConfig(v resp.Version, args [][]byte) []byte {
	if len(args) > 1 {
		return resp.AppendError(nil, "ERR "+errSyntax.Error())
	}
	var found []Setting
	for _, s := range p.Settings() {
		if len(args) == 0 || command.Glob(args[0], []byte(s.Key)) {
			found = append(found, s)
		}
	}
	b := v.AppendMap(nil, len(found))
	for _, s := range found {
		b = resp.AppendBulkString(resp.AppendBulkString(b, s.Key), s.Value)
	}
	return b
}

// log answers LOG [level].
func (p *Pool) log(q Question) []byte {
	switch {
	case len(q.Args) == 1:
		return resp.AppendBulkString(nil, p.Level())
	case len(q.Args) > 2:
		return resp.AppendError(nil, "ERR "+errSyntax.Error())
	case q.IsOpen:
		return resp.AppendError(nil, "ERR keyway: the level of the log can be set by "+
			"users with a password, and at the console with the token of admin.token_file: AUTH <token>")
	}
	if err := p.SetLevel(strings.ToLower(string(q.Args[1])), q.User, q.Addr); err != nil {
		return resp.AppendError(nil, "ERR keyway: "+resp.Printable([]byte(err.Error())))
	}
	return resp.AppendOK(nil)
}

var (
	errSyntax = errors.New("syntax error")
	errCount  = errors.New("count should be greater than 0")
	errKind   = errors.New("keyway: kind must be one of " + strings.Join(overview.Kinds, ", "))
)
