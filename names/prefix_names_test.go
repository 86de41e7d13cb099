package names

import (
	"slices"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// parse returns a command and its arguments.
func parse(t testing.TB, args ...string) (*command.Command, command.Args) {
	t.Helper()
	p := new(resp.Parser)
	if _, st, err := p.Next(resp.AppendCommand(nil, args...), &resp.DefaultLimits); err != nil || st != resp.Ready {
		t.Fatalf("%q is no command: %v", args, err)
	}
	c := command.Lookup(p.Arg(0))
	if c == nil {
		t.Fatalf("no command %s", args[0])
	}
	if len(c.Subs) > 0 && p.Len() > 1 {
		if sub := c.Sub(p.Arg(1)); sub != nil {
			c = sub
		}
	}
	return c, p
}

// sent returns what a node gets for a line of a user with the prefix p[1]:, which as a pattern
// is p\[1]:, or the error that the user gets.
func sent(t testing.TB, line string, scripts bool) string {
	cmd, a := parse(t, strings.Fields(line)...)
	whole, refusal := New("p[1]:", scripts).Command(new(Scratch), cmd, a)
	if refusal != "" {
		return refusal
	}
	words := make([]string, whole.Len())
	for i := range words {
		words[i] = string(whole.Arg(i))
	}
	if string(whole.Frame()) != string(resp.AppendCommand(nil, words...)) {
		t.Errorf("%s: the frame is %q, and the arguments are %q", line, whole.Frame(), words)
	}
	got := strings.ReplaceAll(strings.Join(words, " "), `p\[1]:`, "@")
	return strings.ReplaceAll(got, "p[1]:", "#")
}

// wholeNames are commands of a user, and below each what a node gets or the user's error. #
// stands for the prefix, @ for the prefix as a pattern.
const wholeNames = `
GET a
  GET #a
PING a
  PING a
MSET a 1 b 2
  MSET #a 1 #b 2
MSET a 1 b
  MSET #a 1 #b
DEL a b c
  DEL #a #b #c
BITOP AND d a b
  BITOP AND #d #a #b
OBJECT ENCODING a
  OBJECT ENCODING #a
MEMORY USAGE a SAMPLES 3
  MEMORY USAGE #a SAMPLES 3
COPY a b DB 1 REPLACE
  COPY #a #b DB 1 REPLACE
BLPOP a b 0
  BLPOP #a #b 0
BLMPOP 0 2 a b LEFT
  BLMPOP 0 2 #a #b LEFT
LMPOP 2 a b LEFT
  LMPOP 2 #a #b LEFT
LMPOP x a b LEFT
  LMPOP x #a #b #LEFT
LMPOP +1 a b LEFT
  LMPOP +1 #a #b #LEFT
ZUNIONSTORE d 2 a b WEIGHTS 1 2
  ZUNIONSTORE #d 2 #a #b WEIGHTS 1 2
ZUNIONSTORE d 9 a b WEIGHTS 1 2
  ZUNIONSTORE #d 9 #a #b #WEIGHTS #1 #2
ZINTERCARD 0 a
  ZINTERCARD 0 #a
XREAD COUNT 1 STREAMS a b 0 0
  XREAD COUNT 1 STREAMS #a #b 0 0
XREAD STREAMS a b 0
  XREAD STREAMS #a b 0
XREADGROUP GROUP streams streams COUNT 1 NOACK STREAMS streams >
  XREADGROUP GROUP streams streams COUNT 1 NOACK STREAMS #streams >
XREAD COUNT 1 a 0
  XREAD COUNT 1 #a #0
XGROUP CREATE a g $ MKSTREAM
  XGROUP CREATE #a g $ MKSTREAM
SORT a
  SORT #a
SORT a BY w_*->f LIMIT 0 1 GET # GET o_* DESC ALPHA STORE d STORE e
  SORT #a BY #w_*->f LIMIT 0 1 GET # GET #o_* DESC ALPHA STORE #d STORE #e
SORT a BY nosort
  SORT #a BY nosort
SORT a BOGUS STORE b
  SORT #a #BOGUS #STORE #b
SORT_RO a STORE b
  SORT_RO #a #STORE #b
GEORADIUS a 1 1 1 m STORE b STORE c STOREDIST d
  GEORADIUS #a 1 1 1 m STORE #b STORE #c STOREDIST #d
GEORADIUS a 1 1 1 m COUNT STORE STORE b
  GEORADIUS #a 1 1 1 m COUNT STORE STORE #b
GEORADIUSBYMEMBER a m 1 m ASC STOREDIST b
  GEORADIUSBYMEMBER #a m 1 m ASC STOREDIST #b
GEORADIUSBYMEMBER a m 1 m NEW STORE b
  GEORADIUSBYMEMBER #a m 1 m #NEW #STORE #b
KEYS a*
  KEYS @a*
SCAN 0
  SCAN 0 MATCH @*
SCAN 0 COUNT 5 match a* TYPE x MATCH b
  SCAN 0 COUNT 5 match @a* TYPE x MATCH @b
SCAN 0 COUNT
  SCAN 0 #COUNT
SCAN 0 NEW MATCH MATCH a
  SCAN 0 #NEW #MATCH #MATCH #a
SUBSCRIBE a b
  SUBSCRIBE #a #b
UNSUBSCRIBE
  UNSUBSCRIBE
PSUBSCRIBE a* [b]
  PSUBSCRIBE @a* @[b]
SUBSCRIBE __redis__:invalidate a
  SUBSCRIBE __redis__:invalidate #a
PUBLISH a b
  PUBLISH #a b
SPUBLISH a b
  SPUBLISH #a b
PUBSUB CHANNELS
  PUBSUB CHANNELS @*
PUBSUB SHARDCHANNELS a*
  PUBSUB SHARDCHANNELS @a*
PUBSUB NUMSUB a b
  PUBSUB NUMSUB #a #b
PUBSUB NUMSUB
  PUBSUB NUMSUB
CLIENT TRACKING ON
  CLIENT TRACKING ON
CLIENT TRACKING ON BCAST
  CLIENT TRACKING ON BCAST PREFIX #
CLIENT TRACKING ON BCAST PREFIX a PREFIX b REDIRECT 3
  CLIENT TRACKING ON BCAST PREFIX #a PREFIX #b REDIRECT 3
CLUSTER KEYSLOT a
  CLUSTER KEYSLOT #a
WATCH a b
  WATCH #a #b
COMMAND GETKEYS GET a
  COMMAND GETKEYS GET a
SET get ifeq get
  SET #get ifeq get
RESTORE a 0 x REPLACE
  RESTORE #a 0 x REPLACE
`

func TestWholeNames(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(wholeNames), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		if got, want := sent(t, lines[i], false), strings.TrimSpace(lines[i+1]); got != want {
			t.Errorf("%s\n got %s\nwant %s", lines[i], got, want)
		}
	}
}

func TestRefusedForPrefix(t *testing.T) {
	for line, want := range map[string]string{
		"DBSIZE":                     "count your own with SCAN",
		"RANDOMKEY":                  "take one of those that SCAN finds",
		"FLUSHALL":                   "delete your own with SCAN and UNLINK",
		"SWAPDB 0 1":                 "concerns the keys of all users; send it as a user without a prefix",
		"MIGRATE h 1 a 0 1":          "concerns the keys of all users; send it as a user without a prefix",
		"MONITOR":                    "shows or changes what other users do; send it as a user without a prefix",
		"CLIENT KILL ID 3":           "shows or changes what other users do",
		"SUBSCRIBE __keyspace@0__:a": "gets no keyspace notifications, which name the keys of all users",
		"PSUBSCRIBE __key*":          "gets no keyspace notifications",
		"EVAL x 1 a":                 "the operator can set scripts: true for the user",
		"FCALL f 0":                  "the operator can set scripts: true for the user",
		"SCRIPT LOAD x":              "the operator can set scripts: true for the user",
		"SCRIPT FLUSH":               "all users share the scripts and functions",
		"REPLICAOF NO ONE":           "keyway does not know where its names are",
	} {
		if got := sent(t, line, false); !strings.HasPrefix(got, "ERR keyway: ") || !strings.Contains(got, want) {
			t.Errorf("%s: got %s", line, got)
		}
	}
	for line, want := range map[string]string{
		"EVAL x 2 a b c": "EVAL x 2 #a #b c", "EVALSHA x 0 a": "EVALSHA x 0 a", "FCALL f 1 a": "FCALL f 1 #a",
		"SCRIPT LOAD x": "SCRIPT LOAD x",
	} {
		if got := sent(t, line, true); got != want {
			t.Errorf("%s: got %s, want %s", line, got, want)
		}
	}
}

// notKnown are the commands for which the table has neither a place nor a reason. A command that is
// added to keyway's table needs one of these, or stands here.
const notKnown = `
	arcount ardel ardelrange arget argetrange argrep arinfo arinsert arlastitems arlen armget armset arnext
	arop arring arscan arseek arset backup bgrewriteaof bgsave blmovem client|import-source cluster|addslots
	cluster|addslotsrange cluster|bumpepoch cluster|cancelslotmigrations cluster|count-failure-reports
	cluster|delslots cluster|delslotsrange cluster|failover cluster|flushslot cluster|flushslots
	cluster|forget cluster|getslotmigrations cluster|meet cluster|migrateslots cluster|migration
	cluster|replicate cluster|reset cluster|saveconfig cluster|set-config-epoch cluster|setslot
	cluster|slot-stats cluster|syncslots failover himport
	increx lmovem module|help module|list module|load module|loadex module|unload
	pfdebug pfselftest psync replconf replicaof restore-asking save sdiffcard shutdown slaveof sunioncard
	sync trimslots xcfgset xidmprecord xnack`

// TestEveryCommandIsDecided: a command is in the table, with a place or a reason, or it is known
// to be refused.
func TestEveryCommandIsDecided(t *testing.T) {
	var found []string
	for _, c := range command.ByID {
		e := table[c.ID]
		isContainer := len(c.Subs) > 0 && c.Name != "command"
		if e.place == refused && e.refusal == "" && !isContainer {
			found = append(found, c.Name)
		}
		if e.place != refused && e.refusal != "" || e.place == refused && e.shape != NoNames {
			t.Errorf("%s has a place and a refusal, or names in its reply and no place", c.Name)
		}
		if e.place == nowhere && c.Keyed() || e.place == asKeys && !c.Keyed() {
			t.Errorf("%s has keys and no place, or a place and no keys", c.Name)
		}
		for _, s := range c.Specs {
			exact := s.Begin == command.AtIndex && s.Find != command.Unfindable && !s.Incomplete && !s.NotKey
			if e.place == asKeys && !exact {
				t.Errorf("the key specifications of %s may miss keys", c.Name)
			}
		}
	}
	slices.Sort(found)
	if got := strings.Join(found, " "); got != strings.Join(strings.Fields(notKnown), " ") {
		t.Errorf("these commands are refused without a reason of their own; give each a place in the table, "+
			"or add it to the list of this test:\n%s", got)
	}
	if e := table[command.LearnedID]; e.place != refused {
		t.Error("commands that nodes describe are not refused")
	}
}

func TestOwnNamesInReplies(t *testing.T) {
	p := New("p:", false)
	for _, c := range []struct {
		shape       Shape
		reply, want string
	}{
		{NoNames, "*1\r\n$3\r\np:a\r\n", "*1\r\n$3\r\np:a\r\n"},
		{FirstName, "*2\r\n$3\r\np:a\r\n$3\r\np:b\r\n", "*2\r\n$1\r\na\r\n$3\r\np:b\r\n"},
		{FirstName, "*-1\r\n", "*-1\r\n"},
		{FirstName, "_\r\n", "_\r\n"},
		{AllNames, "*3\r\n$3\r\np:a\r\n$3\r\nq:b\r\n$2\r\np:\r\n", "*2\r\n$1\r\na\r\n$0\r\n\r\n"},
		{AllNames, "*0\r\n", "*0\r\n"},
		{EvenNames, "*4\r\n$3\r\np:a\r\n:1\r\n$3\r\np:b\r\n:2\r\n", "*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:2\r\n"},
		{ScanNames, "*2\r\n$1\r\n7\r\n*2\r\n$3\r\np:a\r\n$1\r\nb\r\n", "*2\r\n$1\r\n7\r\n*1\r\n$1\r\na\r\n"},
		{ScanNames, "*2\r\n$1\r\n7\r\n*0\r\n", "*2\r\n$1\r\n7\r\n*0\r\n"},
		{Streams, "*1\r\n*2\r\n$3\r\np:a\r\n*1\r\n$3\r\np:x\r\n", "*1\r\n*2\r\n$1\r\na\r\n*1\r\n$3\r\np:x\r\n"},
		{Streams, "%1\r\n$3\r\np:a\r\n*1\r\n$3\r\np:x\r\n", "%1\r\n$1\r\na\r\n*1\r\n$3\r\np:x\r\n"},
		{Streams, "*-1\r\n", "*-1\r\n"},
		{Streams, "-NOGROUP No such key 'p:s' or consumer group 'p:g' in XREADGROUP with GROUP option\r\n",
			"-NOGROUP No such key 's' or consumer group 'p:g' in XREADGROUP with GROUP option\r\n"},
		{NoNames, "-NOGROUP No such consumer group 'p:g' for key name 'p:s'\r\n",
			"-NOGROUP No such consumer group 'p:g' for key name 's'\r\n"},
		{NoNames, "-ERR unknown command 'x', with args beginning with: 'p:a' \r\n",
			"-ERR unknown command 'x', with args beginning with: 'a' \r\n"},
	} {
		if got := string(p.AppendReply(nil, []byte(c.reply), c.shape)); got != c.want {
			t.Errorf("%q becomes %q, want %q", c.reply, got, c.want)
		}
	}
	if own, ok := p.Invalidated([]byte("*2\r\n$3\r\nq:a\r\n$3\r\np:a\r\n")); !ok || string(own) != "*1\r\n$1\r\na\r\n" {
		t.Errorf("an invalidation of two keys becomes %q, %v", own, ok)
	}
	if _, ok := p.Invalidated([]byte("*1\r\n$3\r\nq:a\r\n")); ok {
		t.Error("the user sees an invalidation of a key of others")
	}
	if own, ok := p.Invalidated([]byte("_\r\n")); !ok || string(own) != "_\r\n" {
		t.Error("the user does not see that all keys are invalid")
	}
}

func TestMessages(t *testing.T) {
	p := New("p[1]:", false)
	const channel = "*3\r\n$7\r\nmessage\r\n"
	const pattern = ">4\r\n$8\r\npmessage\r\n"
	for message, want := range map[string]string{
		channel + "$6\r\np[1]:c\r\n$6\r\np[1]:x\r\n":               channel + "$1\r\nc\r\n$6\r\np[1]:x\r\n",
		pattern + "$8\r\np\\[1]:c*\r\n$6\r\np[1]:c\r\n$1\r\nx\r\n": pattern + "$2\r\nc*\r\n$1\r\nc\r\n$1\r\nx\r\n",
	} {
		if got := string(p.AppendMessage(nil, []byte(message))); got != want {
			t.Errorf("%q becomes %q, want %q", message, got, want)
		}
	}
}

// TestGlobOfPrefix: the pattern of a prefix matches the prefix alone.
func TestGlobOfPrefix(t *testing.T) {
	for _, text := range []string{"app:", "a[b]?:", "[", "^-]", "{t}?", "a\\b"} {
		p := New(text, false)
		if !command.Glob([]byte(p.glob+"x*"), []byte(text+"xy")) {
			t.Errorf("the pattern %q does not match %q", p.glob, text)
		}
		for _, other := range []string{"aPp:", "ab?:", "a", "b:", "{t}!", "ab"} {
			if command.Glob([]byte(p.glob), []byte(other)) {
				t.Errorf("the pattern %q of %q matches %q", p.glob, text, other)
			}
		}
	}
}

func TestCommandAllocatesNothing(t *testing.T) {
	p, mem := New("app:", false), new(Scratch)
	for _, line := range []string{"GET a", "MSET a 1 b 2 c 3", "XREAD STREAMS a 0", "SCAN 0", "DEL a b"} {
		cmd, a := parse(t, strings.Fields(line)...)
		p.Command(mem, cmd, a)
		if n := testing.AllocsPerRun(100, func() { p.Command(mem, cmd, a) }); n > 0 {
			t.Errorf("%s allocates %v times", line, n)
		}
	}
}
