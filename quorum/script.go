package quorum

import (
	"bytes"
	"regexp"

	"github.com/keyway-proxy/keyway/lua"
)

// scripts are the scripts that are known by their text, in the normal form of normal.
var scripts = map[string]*Script{}

const (
	compare  = `if redis.call("get",KEYS[1]) == ARGV[1] then `
	fetch    = `local v = redis.call("get",KEYS[1]) `
	same     = fetch + `if v == ARGV[1] then `
	notSame  = fetch + `if not v or v ~= ARGV[1] then return 0 end `
	remove   = `redis.call("del",KEYS[1]) `
	unlink   = `redis.call("unlink",KEYS[1]) `
	pexpire  = `redis.call("pexpire",KEYS[1],ARGV[2]) `
	expire   = `redis.call("expire",KEYS[1],ARGV[2]) `
	elseZero = `else return 0 end`
	endZero  = `end return 0`
)

// known are their texts. Each stands for all texts with the same normal form.
var known = []struct {
	does  Script
	texts []string
}{
	{releases(":1", ":0", ":0"), []string{
		compare + `return ` + remove + elseZero,
		compare + `return ` + remove + endZero,
		compare + `return ` + unlink + elseZero,
		compare + `return ` + unlink + endZero,
		compare + remove + `return 1 ` + elseZero,
		compare + remove + `return 1 ` + endZero,
		`if redis.call("get",KEYS[1]) ~= ARGV[1] then return 0 end ` + remove + `return 1`,
		same + `return ` + remove + elseZero,
		same + `return ` + remove + endZero,
		notSame + remove + `return 1`,
		`local result = 0 ` + compare + remove + `result = 1 end return result`,
	}},
	{releases(":1", ":0", ":-1"), []string{
		same + `return ` + remove + `elseif v == false then return -1 else return 0 end`,
	}},
	{releases(":1", Null, Null), []string{
		compare + `return ` + remove + `end`,
		compare + remove + `return true end return false`,
		same + remove + `return true end return false`,
		same + unlink + `return true end return false`,
	}},
	{renews(false, ":1", ":0"), []string{
		compare + `return ` + pexpire + elseZero,
		compare + `return ` + pexpire + endZero,
		compare + pexpire + `return 1 ` + elseZero,
		compare + pexpire + `return 1 ` + endZero,
		same + `return ` + pexpire + elseZero,
		same + `return ` + pexpire + endZero,
		same + pexpire + `return 1 ` + endZero,
		notSame + pexpire + `return 1`,
	}},
	{renews(true, ":1", ":0"), []string{
		compare + `return ` + expire + elseZero,
		compare + `return ` + expire + endZero,
		same + `return ` + expire + elseZero,
		same + `return ` + expire + endZero,
		notSame + expire + `return 1`,
	}},
	{renews(false, ":1", Null), []string{
		`if (redis.call("get",KEYS[1]) == ARGV[1]) then ` + pexpire + `return true end return false`,
		compare + pexpire + `return true end return false`,
		same + pexpire + `return true end return false`,
	}},
	{adds(renews(false, ":1", ":0")), []string{
		notSame + `local expiration = redis.call("pttl",KEYS[1]) if not expiration then expiration = 0 end ` +
			`if expiration < 0 then return 0 end local newttl = ARGV[2] ` +
			`if ARGV[3] == "0" then newttl = ARGV[2] + expiration end redis.call("pexpire",KEYS[1],newttl) return 1`,
	}},
	{acquires(false, "+OK", Null), []string{
		`return redis.call("set",KEYS[1],ARGV[1],"nx","px",ARGV[2])`,
		`return redis.call("set",KEYS[1],ARGV[1],"px",ARGV[2],"nx")`,
	}},
	{acquires(true, "+OK", Null), []string{
		`return redis.call("set",KEYS[1],ARGV[1],"nx","ex",ARGV[2])`,
		`return redis.call("set",KEYS[1],ARGV[1],"ex",ARGV[2],"nx")`,
	}},
	{acquires(false, ":1", ":0"), []string{
		`if redis.call("set",KEYS[1],ARGV[1],"nx","px",ARGV[2]) then return 1 ` + elseZero,
		`if redis.call("set",KEYS[1],ARGV[1],"nx","px",ARGV[2]) then return 1 ` + endZero,
		`if redis.call("setnx",KEYS[1],ARGV[1]) == 1 then ` + pexpire + `return 1 ` + elseZero,
		`if redis.call("setnx",KEYS[1],ARGV[1]) == 1 then ` + pexpire + `return 1 ` + endZero,
	}},
	{acquires(true, ":1", ":0"), []string{
		`if redis.call("set",KEYS[1],ARGV[1],"nx","ex",ARGV[2]) then return 1 ` + elseZero,
		`if redis.call("set",KEYS[1],ARGV[1],"nx","ex",ARGV[2]) then return 1 ` + endZero,
		`if redis.call("setnx",KEYS[1],ARGV[1]) == 1 then ` + expire + `return 1 ` + elseZero,
		`if redis.call("setnx",KEYS[1],ARGV[1]) == 1 then ` + expire + `return 1 ` + endZero,
	}},
}

func releases(done, other, none Value) Script {
	return Script{Kind: Release, Token: 1, Returns: Returns{done, other, none}}
}

func renews(inSeconds bool, done, other Value) Script {
	return Script{
		Kind: Renew, Token: 1, Lease: 2, Seconds: inSeconds,
		Returns: Returns{done, other, other},
	}
}

func acquires(inSeconds bool, done, other Value) Script {
	how := renews(inSeconds, done, other)
	how.Kind = Acquire
	return how
}

func adds(how Script) Script {
	how.Adds = 3
	return how
}

func init() {
	for i := range known {
		for _, text := range known[i].texts {
			scripts[normal([]byte(text))] = &known[i].does
		}
	}
}

// OfText returns what the script does with a lock, or nil if keyway does not know it.
func OfText(text []byte) *Script { return scripts[normal(text)] }

var (
	// calledName is the name of a command that a script calls, which Redis reads in any case.
	calledName = regexp.MustCompile(`redis\.call\("[a-zA-Z]+"`)
	// option is an option of SET, which Redis reads in any case.
	option = regexp.MustCompile(`(?i)"(nx|px|ex)"`)
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
	n = option.ReplaceAllFunc(n, bytes.ToLower)
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
