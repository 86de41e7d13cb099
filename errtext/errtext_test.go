package errtext

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// parsed returns the arguments of a command.
func parsed(t *testing.T, args ...string) command.Args {
	t.Helper()
	p := new(resp.Parser)
	if _, st, err := p.Next(resp.AppendCommand(nil, args...), &resp.DefaultLimits); err != nil || st != resp.Ready {
		t.Fatalf("%q: %v", args, err)
	}
	return p
}

// TestUnknownLikeRedis: the texts for unknown commands show arguments as Redis does: short, up
// to the first zero byte, and on one line.
func TestUnknownLikeRedis(t *testing.T) {
	long := strings.Repeat("x", 200)
	config := command.Lookup([]byte("config")).Sub([]byte("get"))
	for text, want := range map[string]string{
		UnknownCommand(parsed(t, "FOO", "a", "b\r\nc", "d\x00e"), true): "ERR unknown command 'FOO', " +
			"with args beginning with: 'a' 'b  c' 'd' ",
		UnknownCommand(parsed(t, "FOO", long, "y"), false): "ERR unknown command 'FOO', with args beginning with: '" +
			long[:128] + "' ",
		UnknownSub("config", []byte("foo")):     "ERR unknown subcommand 'foo'. Try CONFIG HELP.",
		UnknownCommand(parsed(t, "get"), false): "ERR unknown command 'get', with args beginning with: ",
		UnknownCommand(parsed(t, "get"), true):  "ERR unknown command 'get'",
		Arity(config):                           "ERR wrong number of arguments for 'config|get' command",
	} {
		if text != want {
			t.Errorf("%q\nwant %q", text, want)
		}
	}
}

// TestOutcomeIsInTheText: what surely was not executed begins with CLUSTERDOWN or is the
// node's own BUSY, what may have been executed begins with ERR, and no key or reply breaks the
// line.
func TestOutcomeIsInTheText(t *testing.T) {
	mset := command.Lookup([]byte("mset"))
	for text, class := range map[string]string{
		NotExecuted("a", "refused"):            "CLUSTERDOWN ",
		NotExecuted("a", "BUSY Redis is busy"): "BUSY Redis is busy",
		TooManyHops("a"):                       "CLUSTERDOWN ",
		NoReplica("a"):                         "CLUSTERDOWN ",
		NoReplyYet("a", "no reply"):            "ERR keyway: ",
		ConnectionEnded("a", "reset"):          "ERR keyway: ",
		InPart(mset, []byte("-OOM no\rroom\r\n")): "ERR keyway: MSET may have been executed on some nodes only; " +
			"of one: OOM no room",
		NoRule([]byte("a\nb")):           "ERR keyway: no range rule holds the key 'a b'",
		CrossNode("a\nb", "n", "c", "m"): "CROSSSLOT ",
	} {
		if !strings.HasPrefix(text, class) || strings.ContainsAny(text, "\r\n") {
			t.Errorf("%q, want %q", text, class)
		}
	}
}
