package locks

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/quorum"
)

// ownAcquire returns 0 if it acquires the lock, and 1 if another has it; ARGV[1] is the lease.
const ownAcquire = `local ttl, me = ARGV[1], ARGV[2]
if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end
redis.call('SET', KEYS[1], me); redis.call('EXPIRE', KEYS[1], ttl)
return 0`

func declare(t *testing.T, sha, text string, s quorum.Script) (known Scripts) {
	t.Helper()
	if err := known.Declare(sha, []byte(text), Declared(s)); err != nil {
		t.Fatal(err)
	}
	return known
}

// TestDeclaredScriptsAreWatched: the table knows a declared script by its text, however it is
// laid out, and by its SHA-1, and reads its reply as declared. Without the declaration it sees
// nothing.
func TestDeclaredScriptsAreWatched(t *testing.T) {
	acquire := quorum.Script{Kind: quorum.Acquire, Token: 2, Lease: 1, Seconds: true,
		Returns: quorum.Returns{Done: ":0", Other: ":1", None: ":1"}}
	sha := lua.SHA1([]byte(ownAcquire))
	spaced := "-- mine\n" + strings.ReplaceAll(ownAcquire, "\n", "\n\n  ")
	for name, known := range map[string]Scripts{
		"by its text": declare(t, "", spaced, acquire), "by its SHA-1": declare(t, sha, "", acquire),
	} {
		s := newScene(t, Config{Size: 100})
		if s.sendArgs("x", ":0", "EVAL", ownAcquire, "1", "k", "30", "tok") {
			t.Fatal("recognized before it is declared")
		}
		s.watcher.Configure(known)
		if !s.sendArgs("x", ":0", "EVAL", ownAcquire, "1", "k", "30", "tok") {
			t.Fatalf("not recognized %s", name)
		}
		s.want("k", "held declared string tok x")
		s.texts[sha] = ownAcquire
		s.send("y", "EVALSHA "+strings.ToUpper(sha)+" 1 k 30 other", ":1") // refused
		s.want("k", "held declared string tok x")
		if lease := s.rows(Query{Count: 1})[0].Lease; lease <= 29000 || lease > 30000 {
			t.Errorf("the lease is %d", lease)
		}
		s.watcher.Configure(Scripts{})
		if s.after(time.Second).send("x", "EVALSHA "+sha+" 1 k 30 tok", ":0") {
			t.Error("recognized though it is declared no longer")
		}
	}
}

// TestDeclarationsThatContradict: what keyway knows of a script cannot be declared otherwise.
func TestDeclarationsThatContradict(t *testing.T) {
	redsync := "d75bb8b5bd13532ddedd17762e772346e39b321e"
	returns := quorum.Returns{Done: ":1", Other: ":0", None: ":0"}
	renew := quorum.Script{Kind: quorum.Renew, Token: 1, Lease: 2, Returns: returns}
	release := quorum.Script{Kind: quorum.Release, Token: 1, Returns: returns}
	for _, c := range []struct {
		sha, text string
		s         quorum.Script
		want      string
	}{
		{redsync, "", renew, ""},
		{redsync, "", release, "keyway knows this script of redsync: it renews a lock; the token is ARGV[1], the " +
			"lease ARGV[2] in milliseconds, and it returns 1 (other: 0, none: 0)"},
		{"", compareAndDelete, release, ""},
		{"", compareAndDelete + " -- ours", renew, "keyway knows this script: it releases a lock; the token is " +
			"ARGV[1], and it returns 1 (other: 0, none: 0)"},
		{redissonAcquire, "", renew, "keyway knows this script of Redisson: it acquires a lock"},
	} {
		var known Scripts
		err := known.Declare(c.sha, []byte(c.text), Declared(c.s))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%s%s: %v", c.sha, c.text, err)
		}
	}
}

// TestDeclaredReplies: a reply is success if it is exactly the declared one.
func TestDeclaredReplies(t *testing.T) {
	for _, c := range []struct {
		done    quorum.Value
		reply   string
		outcome Outcome
	}{
		{":1", ":1\r\n", Done}, {":1", ":12\r\n", Refused}, {":0", ":0\r\n", Done}, {"+OK", "+OK\r\n", Done},
		{"+OK", "$2\r\nOK\r\n", Done}, {"+OK", "$-1\r\n", Refused}, {quorum.Null, "$-1\r\n", Done},
		{quorum.Null, "_\r\n", Done},
		{quorum.Null, ":1\r\n", Refused}, {":1", "-ERR x\r\n", Failed},
	} {
		how := Declared(quorum.Script{Kind: quorum.Release, Token: 1, Returns: quorum.Returns{Done: c.done}})
		if got := how.outcome([]byte(c.reply)); got != c.outcome {
			t.Errorf("done: %s, and %q is %d", c.done, c.reply, got)
		}
	}
}
