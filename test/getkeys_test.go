package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// oddForms are commands whose keys move about, beside the plain forms that the
// test generates.
var oddForms = []string{
	"EVAL s 2 a b c d", "EVALSHA x 1 a b", "EVAL_RO s 1 a", "FCALL f 2 a b c", "FCALL_RO f 1 a", "EVAL s 0 a",
	"EVAL s 3 a b",
	"ZUNIONSTORE d 2 a b WEIGHTS 1 2", "ZINTERSTORE d 1 a", "ZDIFFSTORE d 3 a b c", "ZUNION 2 a b",
	"ZINTER 2 a b WITHSCORES", "ZDIFF 1 a", "ZINTERCARD 2 a b LIMIT 1", "SINTERCARD 2 a b", "ZMPOP 2 a b MIN",
	"LMPOP 2 a b LEFT", "BLMPOP 0 2 a b LEFT", "BZMPOP 0 1 a MAX",
	"SORT a", "SORT a BY w_* GET x_* STORE d", "SORT a LIMIT 0 1 STORE d", "SORT a STORE d STORE e", "SORT_RO a BY w_*",
	"SORT a BY store GET store STORE d",
	"XREAD STREAMS a b 0 0", "XREAD COUNT 1 BLOCK 1 STREAMS a 0", "XREADGROUP GROUP g c STREAMS a b > >",
	"XREADGROUP GROUP streams c COUNT 1 STREAMS a >", "XREAD COUNT 2 STREAMS STREAMS 0",
	"GEORADIUS a 1 2 3 km STORE d", "GEORADIUS a 1 2 3 km STOREDIST d", "GEORADIUS a 1 2 3 km",
	"GEORADIUSBYMEMBER a m 3 km STORE d", "GEOSEARCHSTORE d a FROMMEMBER m BYRADIUS 1 km",
	"MIGRATE h 1 a 0 1", "MIGRATE h 1 \"\" 0 1 KEYS a b", "MIGRATE h 1 \"\" 0 1 AUTH p KEYS a b",
	"MIGRATE h 1 \"\" 0 1 AUTH2 u p KEYS a",
	"XGROUP CREATE a g $", "XGROUP DESTROY a g", "XINFO STREAM a", "XINFO GROUPS a", "OBJECT ENCODING a",
	"OBJECT FREQ a", "MEMORY USAGE a", "MEMORY USAGE a SAMPLES 5",
	"MSET a 1 b 2", "MSETNX a 1 b 2", "BITOP AND d a b", "PFMERGE d a b", "PFCOUNT a b", "RENAME a b", "COPY a b",
	"LMOVE a b LEFT LEFT", "BLMOVE a b LEFT LEFT 0", "RPOPLPUSH a b", "SMOVE a b m", "SDIFFSTORE d a b", "LCS a b",
	"BLPOP a b 0", "BZPOPMIN a b 0", "BRPOPLPUSH a b 0",
	"MSETEX 2 a v b w EX 1", "ZRANK a m WITHSCORE", "HSETEX a EX 1 FIELDS 1 f v", "HGETEX a FIELDS 1 f",
	"SET a v IFEQ w", "DELIFEQ a v", "VADD a VALUES 1 1 e",
	"SET a v GET", "GETEX a EX 1", "HSET a f v", "ZADD a 1 m", "LPOS a e", "XADD a * f v", "XACK a g 1-1",
	"XCLAIM a g c 0 1-1", "XAUTOCLAIM a g c 0 0", "XTRIM a MAXLEN 1", "BITFIELD a GET u8 0", "SETRANGE a 0 v",
	"GETRANGE a 0 1", "WATCH a b", "RESTORE a 0 x", "DUMP a",
}

// TestKeysAsRedisFindsThem compares the key positions of every command that
// has keys with COMMAND GETKEYS of each kind of server.
func TestKeysAsRedisFindsThem(t *testing.T) {
	t.Parallel()
	for _, server := range redistest.Servers() {
		t.Run(server.Name, func(t *testing.T) { keysAsFoundBy(t, server.Start(t)) })
	}
}

func keysAsFoundBy(t *testing.T, node *redistest.Node) {
	c := redistest.Dial(t, node.Addr)
	version := c.MustDo("INFO", "server").Text
	compared, newer, refused := 0, 0, 0
	for _, form := range keyedForms() {
		args, keys, ok := keysFound(t, form)
		if !ok {
			t.Errorf("%s: the table lacks it", form)
			continue
		}
		r := c.Do(append([]string{"COMMAND", "GETKEYS"}, args...)...)
		var want []string
		for _, e := range r.Elems {
			want = append(want, e.Text)
		}
		switch {
		case r.Kind != '-':
		case strings.HasPrefix(r.Text, "ERR Invalid command"):
			newer++ // than this server
			continue
		case !strings.HasPrefix(r.Text, "ERR The command has no key arguments"):
			refused++ // the form makes no sense; its node will say so
			continue
		}
		compared++
		if !slices.Equal(keys, want) {
			t.Errorf("%s: keys %q, Redis says %q (%s)", form, keys, want, r)
		}
	}
	_, version, _ = strings.Cut(version, "redis_version:")
	version, _, _ = strings.Cut(version, "\r\n")
	t.Logf("%d forms compared with Redis %s; %d of commands newer than it, %d that it refuses",
		compared, version, newer, refused)
	if compared < 300 {
		t.Errorf("only %d forms were compared", compared)
	}
}

// keyedForms returns each command that has keys with up to nine arguments, and the odd forms.
func keyedForms() []string {
	forms := append([]string(nil), oddForms...)
	for _, cmd := range command.ByID {
		if len(cmd.Subs) > 0 || !cmd.Keyed() {
			continue
		}
		words := strings.Split(strings.ToUpper(cmd.Name), "|")
		for n := len(words); n < 9; n++ {
			if cmd.ArityOK(n) {
				form := append([]string(nil), words...)
				for i := len(words); i < n; i++ {
					form = append(form, fmt.Sprintf("k%d", i))
				}
				forms = append(forms, strings.Join(form, " "))
			}
		}
	}
	return forms
}

// keysFound returns a command's arguments, and the keys that keyway finds among them. ok is
// false if keyway does not know the command.
func keysFound(t *testing.T, form string) (args, keys []string, ok bool) {
	t.Helper()
	var p resp.Parser
	if _, st, err := p.Next([]byte(form+"\r\n"), &resp.DefaultLimits); st != resp.Ready || err != nil {
		t.Fatalf("%s: %v %v", form, st, err)
	}
	cmd := command.Lookup(p.Arg(0))
	if cmd != nil && len(cmd.Subs) > 0 {
		cmd = cmd.Sub(p.Arg(1))
	}
	if cmd == nil {
		return nil, nil, false
	}
	for i := range p.Len() {
		args = append(args, string(p.Arg(i)))
	}
	for _, k := range cmd.Keys(&p, nil) {
		keys = append(keys, args[k])
	}
	return args, keys, true
}
