package lua

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// TestUsesOnlyKeys: scripts that surely use only their KEYS are told from those that may use others.
func TestUsesOnlyKeys(t *testing.T) {
	for text, want := range map[string]bool{
		`return 1`: true,
		`if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call("del", KEYS[1]) else return 0 end`: true,
		"#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1])":                                          true,
		`local n = redis.pcall('DEL', unpack(KEYS)) return n + #KEYS`:                                       true,
		`for i = 1, #KEYS, 1 do redis.call('pexpire', KEYS[i], ARGV[1]) end`:                                true,
		`redis.call('publish', KEYS[2], ARGV[1]); return redis.call('hset', KEYS[1], ARGV[2], 1)`:           true,
		`redis.call('ZUNIONSTORE', KEYS[1], 2, KEYS[2], KEYS[3])`:                                           true,
		"local key = KEYS[1]\nlocal n = redis.call('INCR', key)\nif n == 1 then return key end":             true,
		`redis.call('SET', KEYS[1], ARGV[1] .. ':x', 'PX', ARGV[2])`:                                        true,
		`return redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '$')`:                                      true,
		`-- redis.call('GET', 'x')` + "\nreturn redis.status_reply('OK')":                                   true,

		`return redis.call('GET', ARGV[1])`:                                                   false,
		`return redis.call('GET', KEYS[1] .. ':x')`:                                           false,
		`return redis.call('GET', 'fixed')`:                                                   false,
		`local rcall = redis.call return rcall('GET', KEYS[1])`:                               false,
		`return redis['call']('GET', KEYS[1])`:                                                false,
		`KEYS[1] = 'x' return redis.call('GET', KEYS[1])`:                                     false,
		`KEYS[1], KEYS[2] = 'x', 'y' return redis.call('GET', KEYS[1])`:                       false,
		`table.insert(KEYS, 'x') return redis.call('DEL', unpack(KEYS))`:                      false,
		`local k = KEYS k[1] = 'x' return redis.call('GET', KEYS[1])`:                         false,
		`local key = KEYS[1] .. 'x' return redis.call('GET', key)`:                            false,
		`local key = KEYS[1] key = 'x' return redis.call('GET', key)`:                         false,
		`local key = KEYS[1] a, key = 1, 'x' return redis.call('GET', key)`:                   false,
		`local key = KEYS[1] key, a = 'x', 1 return redis.call('GET', key)`:                   false,
		`local key = KEYS[1] for _, key in ipairs(ARGV) do redis.call('GET', key)`:            false,
		`local key = KEYS[1] function f(a, key) return redis.call('GET', key) end`:            false,
		`local key = KEYS[1] or 'x' return redis.call('GET', key)`:                            false,
		`local a = {} a[1], KEYS[1], a.x = 1, 'x', 2 return redis.call('GET', KEYS[1])`:       false,
		`local key = KEYS[1] local a, key, b = 1 return redis.call('GET', key)`:               false,
		`local key = KEYS[1] local f = function(a, key, b) return redis.call('GET', key) end`: false,
		`return redis.call('DEL', KEYS[1], ARGV[1])`:                                          false,
		`return redis.call('MSET', KEYS[1], 1, ARGV[1], 2)`:                                   false,
		`return redis.call('ZUNIONSTORE', KEYS[1], #KEYS - 1, unpack(ARGV))`:                  false,
		`return redis.call('SORT', KEYS[1], 'GET', 'x_*')`:                                    false,
		`return redis.call(ARGV[0], KEYS[1])`:                                                 false,
		`return redis.call(unpack(ARGV))`:                                                     false,
		`return redis.call('KEYS', '*')`:                                                      false,
		`return redis.call('SCAN', 0)`:                                                        false,
		`return loadstring(ARGV[1])()`:                                                        false,
		`return redis.call(`:                                                                  false,
		`return redis.call 'x'`:                                                               false,
		`local f = redis`:                                                                     false,
	} {
		if got := declaredBy([]byte(text)).only; got != want {
			t.Errorf("%s: %v", text, got)
		}
		for n := range text { // what is cut off may be said in any way, but not with a panic
			declaredBy([]byte(text[n:]))
			declaredBy([]byte(text[:n]))
		}
	}
}

// TestUsesOnlyKeysIfItPublishes: a script that gets the name of a command uses only its KEYS if that
// command publishes, as those do with which Redisson unlocks.
func TestUsesOnlyKeysIfItPublishes(t *testing.T) {
	c := NewCache(PerKeyScripts{})
	const text = "redis.call('del', KEYS[1]); redis.call(ARGV[4], KEYS[2], ARGV[1]); return 1;"
	for args, want := range map[string]bool{
		"2 a b 0 1 id publish": true, "2 a b 0 1 id SPUBLISH": true, "2 a b 0 1 id set": false, "2 a b 0 1 id": false,
		"-1 a b 0 1 id publish": false, "x a b 0 1 id publish": false,
	} {
		frame := resp.AppendArray(nil, 2+len(strings.Fields(args)))
		for _, arg := range append([]string{"EVAL", text}, strings.Fields(args)...) {
			frame = resp.AppendBulkString(frame, arg)
		}
		var p resp.Parser
		p.Next(frame, &resp.DefaultLimits)
		if cmd := command.Lookup(p.Arg(0)); c.UsesOnlyKeys(cmd, &p) {
			t.Errorf("%s: the cache lacks the script", args)
		}
		c.Add([]byte(text))
		if got := c.UsesOnlyKeys(command.Lookup(p.Arg(0)), &p); got != want {
			t.Errorf("%s: %v", args, got)
		}
		c.Clear()
	}
}
