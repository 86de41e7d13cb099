package names

import (
	"bytes"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// FuzzCommand: of any command, each argument goes on as it is or behind the prefix, and every key
// of the key specifications has the prefix.
func FuzzCommand(f *testing.F) {
	for _, line := range strings.Split(strings.TrimSpace(wholeNames), "\n") {
		f.Add(strings.TrimSpace(line))
	}
	f.Fuzz(func(t *testing.T, line string) {
		words := strings.Fields(line)
		if len(words) == 0 {
			return
		}
		a := new(resp.Parser)
		_, st, err := a.Next(resp.AppendCommand(nil, words...), &resp.DefaultLimits)
		if err != nil || st != resp.Ready {
			return
		}
		cmd := command.Lookup(a.Arg(0))
		if cmd == nil {
			return
		}
		if sub := cmd; len(cmd.Subs) > 0 && a.Len() > 1 {
			if sub = cmd.Sub(a.Arg(1)); sub == nil {
				return
			}
			cmd = sub
		}
		p := New("p[1]:", false)
		whole, refusal := p.Command(new(Scratch), cmd, a)
		if !cmd.ArityOK(a.Len()) || refusal != "" {
			return
		}
		for i := range a.Len() {
			if got := whole.Arg(i); !bytes.Equal(got, a.Arg(i)) && string(got) != p.text+string(a.Arg(i)) &&
				string(got) != p.glob+string(a.Arg(i)) {
				t.Errorf("%q: argument %d becomes %q", line, i, got)
			}
		}
		if table[cmd.ID].place != asKeys {
			return // the key specifications do not read the other options as a node does
		}
		for _, at := range cmd.Keys(whole, nil) {
			if !p.Has(whole.Arg(at)) {
				t.Errorf("%q: the key %q has no prefix", line, whole.Arg(at))
			}
		}
	})
}
