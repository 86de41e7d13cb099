package quorum

import (
	"bytes"
	"regexp"

	"github.com/keyway-proxy/keyway/lua"
)

// Script is what a client's script does with a lock.
type Script struct {
	Kind  Kind // Renew or Release
	Unit  int64
	Adds  bool  // with "0" as its third ARGV, it adds to what is left of the lease
	Other int64 // what it returns for a lock with another value
	None  int64 // what it returns if there is no lock
}

// scripts are the scripts that compare a lock's value with their first ARGV and then change
// the lease or delete the lock, in the normal form of normal. All return 1 if they did.
var scripts = map[string]*Script{}

// known are their texts. Each stands for all texts with the same normal form.
var known = []struct {
	script Script
	texts  []string
}{
	{Script{Kind: Release}, []string{
		`if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("del",KEYS[1]) else return 0 end`,
		`if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("del",KEYS[1]) end return 0`,
		`if redis.call("get",KEYS[1]) == ARGV[1] then redis.call("del",KEYS[1]) return 1 else return 0 end`,
		`if redis.call("get",KEYS[1]) == ARGV[1] then redis.call("del",KEYS[1]) return 1 end return 0`,
		`if redis.call("get",KEYS[1]) ~= ARGV[1] then return 0 end redis.call("del",KEYS[1]) return 1`,
		`local v = redis.call("get",KEYS[1]) if v == ARGV[1] then return redis.call("del",KEYS[1]) else return 0 end`,
		`local v = redis.call("get",KEYS[1]) if v == ARGV[1] then return redis.call("del",KEYS[1]) end return 0`,
		`local v = redis.call("get",KEYS[1]) if not v or v ~= ARGV[1] then return 0 end ` +
			`redis.call("del",KEYS[1]) return 1`,
	}},
	{Script{Kind: Release, None: -1}, []string{
		`local v = redis.call("get",KEYS[1]) if v == ARGV[1] then return redis.call("del",KEYS[1]) ` +
			`elseif v == false then return -1 else return 0 end`,
	}},
	{Script{Kind: Renew, Unit: 1}, []string{
		`if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("pexpire",KEYS[1],ARGV[2]) else return 0 end`,
		`if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("pexpire",KEYS[1],ARGV[2]) end return 0`,
		`if redis.call("get",KEYS[1]) == ARGV[1] then redis.call("pexpire",KEYS[1],ARGV[2]) return 1 else return 0 end`,
		`if redis.call("get",KEYS[1]) == ARGV[1] then redis.call("pexpire",KEYS[1],ARGV[2]) return 1 end return 0`,
		`local v = redis.call("get",KEYS[1]) if v == ARGV[1] then redis.call("pexpire",KEYS[1],ARGV[2]) return 1 end ` +
			`return 0`,
		`local v = redis.call("get",KEYS[1]) if not v or v ~= ARGV[1] then return 0 end ` +
			`redis.call("pexpire",KEYS[1],ARGV[2]) return 1`,
	}},
	{Script{Kind: Renew, Unit: 1000}, []string{
		`if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("expire",KEYS[1],ARGV[2]) else return 0 end`,
		`if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("expire",KEYS[1],ARGV[2]) end return 0`,
	}},
	{Script{Kind: Renew, Unit: 1, Adds: true}, []string{
		`local v = redis.call("get",KEYS[1]) if not v or v ~= ARGV[1] then return 0 end ` +
			`local expiration = redis.call("pttl",KEYS[1]) if not expiration then expiration = 0 end ` +
			`if expiration < 0 then return 0 end local newttl = ARGV[2] ` +
			`if ARGV[3] == "0" then newttl = ARGV[2] + expiration end redis.call("pexpire",KEYS[1],newttl) return 1`,
	}},
}

func init() {
	for i := range known {
		for _, text := range known[i].texts {
			scripts[normal([]byte(text))] = &known[i].script
		}
	}
}

// Recognize returns what the script does with a lock, or nil if it does anything else.
func Recognize(text []byte) *Script { return scripts[normal(text)] }

var (
	// calledName is the name of a command that a script calls, which Redis reads in any case.
	calledName = regexp.MustCompile(`redis\.call\("[a-zA-Z]+"`)
	// alias is a variable that is another name of an argument.
	alias = regexp.MustCompile(`\blocal ([A-Za-z_]\w*)=((?:KEYS|ARGV)\[\d\])`)
	// fetched is a variable that gets the value of the lock.
	fetched = regexp.MustCompile(`\blocal ([A-Za-z_]\w*)=redis\.call\("get",KEYS\[1\]\)`)
)

// normal returns the normal form of a script: that of lua.NormalScript, with names of commands
// in lower case, arguments in place of the variables that are set to them, and v as the name
// of the variable with the lock's value.
func normal(text []byte) string {
	n := calledName.ReplaceAllFunc(lua.NormalScript(text), bytes.ToLower)
	for range 8 {
		m := alias.FindSubmatchIndex(n)
		if m == nil {
			break
		}
		name, arg := string(n[m[2]:m[3]]), string(n[m[4]:m[5]])
		n = bytes.TrimLeft(append(n[:m[0]:m[0]], n[m[1]:]...), " ")
		n = renamed(n, name, arg)
	}
	if m := fetched.FindSubmatch(n); m != nil {
		n = renamed(n, string(m[1]), "v")
	}
	return string(spaces.ReplaceAll(n, []byte("$1$2")))
}

// spaces is a space that is not needed once a name has become an argument.
var spaces = regexp.MustCompile(`([\])]) (\w)`)

// renamed replaces a name wherever it stands as a whole word.
func renamed(text []byte, name, by string) []byte {
	return regexp.MustCompile(`\b`+name+`\b`).ReplaceAllLiteral(text, []byte(by))
}
