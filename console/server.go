package console

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/tidwall/redcon"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/resp"
)

// Options are what a console knows.
type Options struct {
	// Pools returns what can be asked about each pool, by the pools' names; a file without pools has one with an
	// empty name.
	Pools func() map[string]*Pool
	// IsToken reports whether operators may act with a token, as the configuration is now. hasAny is false if it has
	// no token.
	IsToken func(token string) (is, hasAny bool)
}

// Serve answers KEYWAY on a listener of its own until ctx ends. It does not need keyway's threads, so it answers
// even if they are stuck.
func Serve(ctx context.Context, ln net.Listener, o Options) error {
	srv := redcon.NewServer(ln.Addr().String(), o.answer, func(c redcon.Conn) bool {
		c.SetContext(&session{version: resp.V2})
		return true
	}, nil)
	stopped := context.AfterFunc(ctx, func() { ln.Close() }) // redcon then closes all connections
	defer stopped()
	if err := srv.Serve(&bounded{Listener: ln}); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serving the console: %w", err)
	}
	return nil
}

// session is a client of the console.
type session struct {
	version resp.Version
	pool    string
	token   bool // it has authenticated
}

// answer answers a command.
func (o Options) answer(c redcon.Conn, cmd redcon.Command) {
	s := c.Context().(*session)
	switch strings.ToLower(string(cmd.Args[0])) {
	case "keyway":
		c.WriteRaw(o.keyway(s, cmd.Args[1:], c.RemoteAddr()))
	case "ping":
		if len(cmd.Args) == 2 {
			c.WriteBulk(cmd.Args[1])
			return
		}
		c.WriteString("PONG")
	case "info":
		c.WriteRaw(o.info(s))
	case "auth":
		c.WriteRaw(o.auth(s, cmd.Args[1:]))
	case "hello":
		c.WriteRaw(o.hello(s, cmd.Args[1:]))
	case "command":
		c.WriteArray(0)
	case "client":
		answerClient(c, cmd.Args)
	case "quit":
		c.WriteString("OK")
		c.Close()
	default:
		c.WriteError(fmt.Sprintf("ERR keyway: the console has no command '%.64s'; try KEYWAY HELP",
			resp.Printable(cmd.Args[0])))
	}
}

// answerClient answers what libraries send when they connect. OK to another subcommand, such as KILL, would say that it
// was done.
func answerClient(c redcon.Conn, args [][]byte) {
	if len(args) == 1 {
		c.WriteError("ERR wrong number of arguments for 'client' command")
		return
	}
	switch sub := args[1]; strings.ToLower(string(sub)) {
	case "setinfo", "setname":
		c.WriteString("OK")
	default:
		c.WriteError(fmt.Sprintf("ERR keyway: the console has no command 'CLIENT %.64s'; try KEYWAY HELP",
			resp.Printable(sub)))
	}
}

// keyway answers KEYWAY.
func (o Options) keyway(s *session, args [][]byte, client string) []byte {
	if len(args) == 0 {
		return resp.AppendError(nil, errtext.Arity(keyway))
	}
	pools := o.Pools()
	switch name := strings.ToLower(string(args[0])); {
	case name == "help" && len(args) == 1:
		return resp.AppendHelp(nil, "KEYWAY", append(slices.Clone(command.KeywayHelp), "POOL [<name>]",
			"    Return the names of the pools, or choose the one to ask about.")...)
	case name == "pool":
		return s.choosePool(pools, args[1:])
	}
	p, err := s.chosen(pools)
	if err != nil {
		return resp.AppendError(nil, "ERR keyway: "+err.Error())
	}
	return p.Answer(Question{Args: args, Protocol: s.version, Addr: client, IsOpen: !s.token})
}

// chosen returns the pool that the client asks about.
func (s *session) chosen(pools map[string]*Pool) (*Pool, error) {
	if p := pools[s.pool]; p != nil {
		return p, nil
	}
	if len(pools) == 1 {
		for _, p := range pools {
			return p, nil
		}
	}
	return nil, fmt.Errorf("choose a pool first: KEYWAY POOL <name>; KEYWAY POOL lists them")
}

func (s *session) choosePool(pools map[string]*Pool, args [][]byte) []byte {
	switch {
	case len(args) == 0:
		names := slices.Sorted(maps.Keys(pools))
		return Append(nil, s.version, names)
	case len(args) == 1 && pools[string(args[0])] != nil:
		s.pool = string(args[0])
		return resp.AppendOK(nil)
	}
	return resp.AppendError(nil, "ERR keyway: there is no such pool; KEYWAY POOL lists them")
}

// auth answers AUTH [user] token.
func (o Options) auth(s *session, args [][]byte) []byte {
	if len(args) == 0 || len(args) > 2 {
		return resp.AppendError(nil, errtext.Arity(command.Lookup([]byte("auth"))))
	}
	switch is, hasAny := o.IsToken(string(args[len(args)-1])); {
	case !hasAny:
		return resp.AppendError(nil, "ERR keyway: AUTH needs admin.token_file, which the configuration lacks")
	case !is:
		return resp.AppendError(nil, "WRONGPASS invalid username-password pair or user is disabled.")
	}
	s.token = true
	return resp.AppendOK(nil)
}

// hello answers HELLO [version [AUTH user token] [SETNAME name]].
func (o Options) hello(s *session, args [][]byte) []byte {
	v := s.version
	if len(args) > 0 {
		switch string(args[0]) {
		case "2":
			v = resp.V2
		case "3":
			v = resp.V3
		default:
			return resp.AppendError(nil, "NOPROTO unsupported protocol version")
		}
		if len(args) >= 4 && strings.EqualFold(string(args[1]), "auth") {
			if reply := o.auth(s, args[2:4]); reply[0] == '-' {
				return reply
			}
		}
	}
	s.version = v
	b := v.AppendMap(nil, 4)
	b = resp.AppendBulkString(resp.AppendBulkString(b, "server"), "keyway")
	b = resp.AppendBulkString(resp.AppendBulkString(b, "mode"), "console")
	b = resp.AppendInt(resp.AppendBulkString(b, "proto"), int64(v))
	return resp.AppendBulkString(resp.AppendBulkString(b, "role"), "master")
}

// info answers INFO with what redis-cli --stat and people look for.
func (o Options) info(s *session) []byte {
	p, err := s.chosen(o.Pools())
	if err != nil {
		return resp.AppendError(nil, "ERR keyway: "+err.Error())
	}
	return s.version.AppendText(nil, []byte(infoText(p.State())))
}

func infoText(s overview.State) string {
	return fmt.Sprintf("# Server\r\nkeyway_version:%s\r\nuptime_in_seconds:%d\r\n\r\n"+
		"# Clients\r\nconnected_clients:%d\r\n\r\n# Memory\r\nused_memory:%d\r\n\r\n"+
		"# Stats\r\ninstantaneous_ops_per_sec:%.0f\r\n\r\n"+
		"# Keyway\r\nlayout:%s\r\nnodes:%d\r\nnodes_ready:%d\r\nproblems:%d\r\n",
		s.Version, int64(s.Uptime), s.Now.Clients, s.Now.Memory, s.Now.Commands, s.Layout, len(s.Nodes), s.NodesReady(),
		len(s.Problems))
}
