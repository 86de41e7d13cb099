package acl_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// parse returns the arguments of a command, and the command.
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

// verdict is what keyway says about a command, in the words of ACL DRYRUN.
func verdict(t *testing.T, u *acl.User, args ...string) string {
	t.Helper()
	cmd, a := parse(t, args...)
	switch v := u.Check(cmd, a, new(acl.Scratch)); v.Why {
	case acl.DeniedCommand:
		return "This user has no permissions to run the '" + cmd.Name + "' command"
	case acl.DeniedKey:
		return "This user has no permissions to access the '" + string(a.Arg(v.At)) + "' key"
	case acl.DeniedChannel:
		return "This user has no permissions to access the '" + string(a.Arg(v.At)) + "' channel"
	}
	return "OK"
}

// single are rules of which most are special in some way.
var single = strings.Split(`%~foo|%R~x %W~x|%RW~*|%R~*|%RR~a|%rw~b|~* ~x|allkeys %R~a|&* &a|allchannels &z|+nocmd|`+
	`+@nocat|-config/nope|+config/nope|+select/0|-select/0|+select/0/1|+config/get/x|+config/|+acl/x/y|>|<nope|`+
	`#abc|!abc|foo|(+get|(+get)|( ~a +get ) ( +set|+GET|+CONFIG/GET|nopass >a|>a nopass|>a >b <a|(nopass)|(on)|()|`+
	`(~a ~a)|clearselectors|reset|+@all -select +select/0|+@all -config/get -config +config|ALLKEYS|ON|~|&|%R~|%R|`+
	`+@read -get +get -@read|sanitize-payload|skip-sanitize-payload|x)|+get)|+debug/object +@all -@dangerous|`+
	`+client -client/kill|+config/get +config|-config/get +config/get|+@all +@read -get -@read|+select/0 +select/0|`+
	`+select/a +select/A|allcommands -@write nocommands|`+
	`on nopass ~a resetkeys ~b &c resetchannels|(+get ~x) (+set %W~y)|`+
	`+xgroup -xgroup/create|+object/freq|+@read -object|+@ALL -@Write|%wr~q|%w~q|%|%x~a|(+get ~a ) on|on  +get|`+
	`!e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855|+|-|@all|+@|`+
	`> !e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855|~a ~a &b &b|(%R~a %W~a)|(+nocmd)`, "|")

// TestRulesAsRedis compares the errors and the meaning of rules with a real Redis: it gets back
// what keyway shows of a user, and shows the same as for the rules themselves.
func TestRulesAsRedis(t *testing.T) {
	t.Parallel()
	node := redistest.Dial(t, redistest.Start(t).Addr)
	for _, rules := range single {
		rules = strings.ReplaceAll(rules, "/", "|")
		node.Do("ACL", "DELUSER", "u", "again")
		got := node.Do(append([]string{"ACL", "SETUSER", "u"}, strings.Split(rules, " ")...)...).String()
		us, _, err := acl.Make([]acl.Definition{{Name: "u", Rules: rules}})
		if err != nil {
			text := err.Error()
			if i := strings.LastIndex(text, "': "); i >= 0 {
				text = text[i+3:]
			}
			if !strings.Contains(got, strings.TrimSuffix(text, " in selector definition")) &&
				!strings.Contains(got, "Unmatched parenthesis") {
				t.Errorf("%s: keyway says %q, Redis %s", rules, err, got)
			}
			continue
		}
		if got != "OK" {
			t.Errorf("%s: keyway accepts it, Redis says %s", rules, got)
			continue
		}
		line := us.Named("u").Line()
		words := append([]string{"ACL", "SETUSER", "again"}, strings.Fields(line)[2:]...)
		if got := node.Do(words...).String(); got != "OK" {
			t.Errorf("%s: keyway shows %s, to which Redis says %s", rules, line, got)
		}
		if a, b := shown(node, "u"), shown(node, "again"); a != b {
			t.Errorf("%s: Redis shows %s, and for keyway's line %s", rules, a, b)
		}
	}
}

// shown returns what ACL LIST shows of a user, with the rules about commands in a fixed order
// where Redis 7.0 has none.
func shown(node *redistest.Client, name string) string {
	for _, e := range node.Do("ACL", "LIST").Elems {
		if rest, ok := strings.CutPrefix(e.Text, "user "+name+" "); ok {
			return rest
		}
	}
	return "nothing"
}

// commands are commands whose permissions depend on something else than their name.
var commands = strings.Split(`get a|set a 1|set a 1 get|set b 1 EX 10 GET|exists a b|mget a b|`+
	`mset a 1 b 2|del a|copy a b|`+
	`rename a b|bitfield a get u8 0|bitfield a set u8 0 1|bitfield a overflow sat incrby u8 0 1|`+
	`sort a|sort a store b|`+
	`sort a by x* get y* store b|sort_ro a|eval x 2 a b|eval x 0|eval_ro x 1 b|evalsha x 1 a|fcall f 1 b|`+
	`zunionstore a 2 b c|zunion 2 a b|zinterstore b 1 a|xread count 1 streams a b 0 0|`+
	`xreadgroup group g c streams a >|xadd a * f v|georadius a 1 1 1 m store b|georadius a 1 1 1 m|`+
	`geosearchstore a b fromlonlat 1 1 byradius 1 m|lmpop 2 a b left|blpop a b 0|lmove a b left left|`+
	`sintercard 2 a b|sinterstore a b c|smove a b m|bitop and a b c|pfcount a b|pfmerge a b|`+
	`migrate h 1 a 0 1|migrate h 1  0 1 keys a b|object freq a|object help|memory usage b|`+
	`publish c1 m|publish d m|spublish c1 m|subscribe c1|subscribe c1 d|psubscribe c*|psubscribe d*|ssubscribe d|`+
	`unsubscribe d|punsubscribe d*|config get x|config set a b|acl whoami|acl list|client list|client kill x|`+
	`select 0|select 1|auth x|hello 3|quit|reset|ping|multi|exec|watch a|watch b|flushall|keys *|`+
	`scan 0|info|debug x|`+
	`getex a ex 1|getdel a|append a b|incr b|expire a 1|ttl b|type a|dump a|restore a 0 x|lpush a 1|lrange b 0 1|`+
	`hset a f v|hgetall b|zadd a 1 m|zrange b 0 1|zrangestore a b 0 1|sadd b m|spop a|`+
	`srandmember b|xgroup create a g 0|`+
	`xinfo stream b|touch a|unlink b|wait 0 0|monitor|script load x|function list|cluster info|`+
	`command|slowlog get`, "|")

// words are the parts of random rules.
var words = strings.Split(`~a ~b ~* %R~a %W~b %R~b %W~a %RW~a ~[ab] ~?  resetkeys &c* &d &* `+
	`resetchannels +@all -@all `+
	`+@read +@write -@read -@write +@keyspace -@dangerous -@admin +@pubsub +@fast -@slow +@scripting +@connection `+
	`-@string +@list +get -get +set -set +config -config +config|get -config|get +select|0 `+
	`-select +acl|whoami +client `+
	`-client|kill +eval +sort -sort +publish +subscribe +object +object|freq (+get_~b) (+@all_%R~*) (+@all_~a_&d) `+
	`(+set_%W~a) clearselectors (+mget_%R~b_%R~a) (+copy_%R~a_%W~b) nopass on off`, " ")

// TestVerdictsAsRedis compares verdicts about commands with ACL DRYRUN of a real Redis, for
// random users.
func TestVerdictsAsRedis(t *testing.T) {
	t.Parallel()
	node := redistest.Dial(t, redistest.Start(t).Addr)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for range 150 {
		node.Do("ACL", "DELUSER", "u")
		var rules []string
		for range 2 + r.IntN(8) {
			rule := strings.ReplaceAll(words[r.IntN(len(words))], "_", " ")
			tried := strings.Join(append(slices.Clone(rules), rule), " ")
			if _, _, err := acl.Make([]acl.Definition{{Name: "u", Rules: tried}}); err == nil {
				rules = append(rules, rule)
			}
		}
		text := strings.Join(rules, " ")
		set := append([]string{"ACL", "SETUSER", "u"}, strings.Split(text, " ")...)
		if got := node.Do(set...).String(); got != "OK" {
			t.Fatalf("seed %d: %s: %s", seed, text, got)
		}
		us, _, err := acl.Make([]acl.Definition{{Name: "u", Rules: text}})
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range commands {
			args := strings.Split(line, " ")
			want := node.Do(append([]string{"ACL", "DRYRUN", "u"}, args...)...).Text
			if got := verdict(t, us.Named("u"), args...); got != want {
				t.Errorf("seed %d: a user with %s sends %s: keyway says %q, Redis %q", seed, text, line, got, want)
			}
		}
		if t.Failed() {
			return
		}
	}
}

// TestCategoriesAsRedis compares the categories of all commands with ACL CAT of a real Redis.
func TestCategoriesAsRedis(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	var names []string
	for _, e := range node.Do("ACL", "CAT").Elems {
		names = append(names, e.Text)
	}
	if !slices.Equal(names, command.CategoryNames) {
		t.Errorf("the categories are %q, Redis has %q", command.CategoryNames, names)
	}
	for i, category := range names {
		redis := map[string]bool{}
		for _, e := range node.Do("ACL", "CAT", category).Elems {
			redis[e.Text] = true
		}
		for _, c := range command.ByID {
			has := c.Categories&(1<<i) != 0
			if redis[c.Name] && !has {
				t.Errorf("%s is not in %s", c.Name, category)
			}
			if has && inRedis7(c) && !redis[c.Name] {
				t.Errorf("%s is in %s, and Redis does not list it", c.Name, category)
			}
		}
	}
}

// inRedis7 reports whether Redis 7.0 has the command.
func inRedis7(c *command.Command) bool { return c.Since != "" && c.Since < "7.1" }
