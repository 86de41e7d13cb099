package faults

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// words are the arguments of random commands: keywords before keys, numbers and keys.
var words = []string{
	"a", "b", "c", "key:1", "0", "1", "2", "3", "-1", "x", "", "*", "9999999999",
	"BY", "GET", "STORE", "storedist", "STREAMS", "streams", "KEYS", "LIMIT", "WEIGHTS", "AGGREGATE",
	"COUNT", "GROUP", "BLOCK", "NOACK", "MIN", "LEFT", "AUTH", "AUTH2", "SAMPLES",
}

// TestKeysOfRandomCommands compares the keys of random commands with the reply of a real
// server to COMMAND GETKEYS. If the server calls a command invalid, any node would refuse
// it, so its node does not matter.
func TestKeysOfRandomCommands(t *testing.T) {
	node := redistest.Start(t)
	c := redistest.Dial(t, node.Addr)
	rng := rand.New(rand.NewPCG(4, 4))
	var keyed []*command.Command
	for _, cmd := range command.ByID {
		if len(cmd.Subs) == 0 && cmd.Keyed() {
			keyed = append(keyed, cmd)
		}
	}
	compared, refused := 0, 0
	for batch := range scale(2_000, 20_000) {
		var forms [][]string // the random commands
		for range 500 {
			cmd := keyed[rng.IntN(len(keyed))]
			form := strings.Split(strings.ToUpper(cmd.Name), "|")
			for n := rng.IntN(11); n > 0; n-- {
				form = append(form, words[rng.IntN(len(words))])
			}
			if cmd.ArityOK(len(form)) {
				forms = append(forms, form)
				c.Send(append([]string{"COMMAND", "GETKEYS"}, form...)...)
			}
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		for _, form := range forms {
			r, err := c.Receive()
			if err != nil {
				t.Fatal(err)
			}
			none := r.Kind == '-' && strings.HasPrefix(r.Text, "ERR The command has no key arguments")
			if r.Kind == '-' && !none {
				refused++
				continue
			}
			compared++
			cmd, got := keysOf(t, form)
			var want []string
			for _, e := range r.Elems {
				want = append(want, e.Text)
			}
			if len(got) == 0 && strings.HasPrefix(cmd.Name, "xread") {
				continue // its specification fits nothing; the server tries older ways, and then refuses it
			}
			if strings.Join(got, "\x00") != strings.Join(want, "\x00") {
				t.Errorf("batch %d: %q: keys %q, Redis says %q", batch, form, got, want)
			}
		}
		if t.Failed() {
			break
		}
	}
	t.Logf("%d commands compared, %d that Redis refuses", compared, refused)
}

// keysOf returns the description of a command, and the keys that keyway finds in it.
func keysOf(t *testing.T, form []string) (cmd *command.Command, keys []string) {
	t.Helper()
	var p resp.Parser
	_, st, err := p.Next(resp.AppendCommand(nil, form...), &resp.DefaultLimits)
	if st != resp.Ready || err != nil {
		t.Fatal(form, st, err)
	}
	cmd = command.Lookup(p.Arg(0))
	if len(cmd.Subs) > 0 {
		cmd = cmd.Sub(p.Arg(1))
	}
	for _, k := range cmd.Keys(&p, nil) {
		keys = append(keys, string(p.Arg(k)))
	}
	return cmd, keys
}
