package quorum

import "testing"

// The texts of the libraries, as they send them.
const (
	redisPyRelease = `
        local token = redis.call('get', KEYS[1])
        if not token or token ~= ARGV[1] then
            return 0
        end
        redis.call('del', KEYS[1])
        return 1
    `
	redisPyReacquire = `
        local token = redis.call('get', KEYS[1])
        if not token or token ~= ARGV[1] then
            return 0
        end
        redis.call('pexpire', KEYS[1], ARGV[2])
        return 1
    `
	redisPyExtend = `
        local token = redis.call('get', KEYS[1])
        if not token or token ~= ARGV[1] then
            return 0
        end
        local expiration = redis.call('pttl', KEYS[1])
        if not expiration then
            expiration = 0
        end
        if expiration < 0 then
            return 0
        end

        local newttl = ARGV[2]
        if ARGV[3] == "0" then
            newttl = ARGV[2] + expiration
        end
        redis.call('pexpire', KEYS[1], newttl)
        return 1
    `
	redsyncDelete = `
	local val = redis.call("GET", KEYS[1])
	if val == ARGV[1] then
		return redis.call("DEL", KEYS[1])
	elseif val == false then
		return -1
	else
		return 0
	end
`
	redsyncTouch = `
	if redis.call("GET", KEYS[1]) == ARGV[1] then
		return redis.call("PEXPIRE", KEYS[1], ARGV[2])
	else
		return 0
	end
`
	semaphoreRelease = `
  local key = KEYS[1]
  local identifier = ARGV[1]

  if redis.call('get', key) == identifier then
    return redis.call('del', key)
  end

  return 0
  `
	semaphoreRefresh = `
  local key = KEYS[1]
  local identifier = ARGV[1]
  local lockTimeout = ARGV[2]

  local value = redis.call('get', key)

  if value == identifier then
    redis.call('pexpire', key, lockTimeout)
    return 1
  end

  return 0
  `
)

func TestRecognizeScriptsOfLibraries(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want Script
	}{
		"redis-py release":        {redisPyRelease, releases(":1", ":0", ":0")},
		"redis-py reacquire":      {redisPyReacquire, renews(false, ":1", ":0")},
		"redis-py extend":         {redisPyExtend, adds(renews(false, ":1", ":0"))},
		"redsync unlock":          {redsyncDelete, releases(":1", ":0", ":-1")},
		"redsync extend":          {redsyncTouch, renews(false, ":1", ":0")},
		"redis-semaphore release": {semaphoreRelease, releases(":1", ":0", ":0")},
		"redis-semaphore refresh": {semaphoreRefresh, renews(false, ":1", ":0")},
		"one line, a comment": {
			"if redis.call('GeT',KEYS[1])==ARGV[1] then -- mine\nreturn redis.call('DEL',KEYS[1]);else return 0;end",
			releases(":1", ":0", ":0"),
		},
		"set": {`return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2])`, acquires(true, "+OK", "_")},
	} {
		if got := scripts[normal([]byte(c.text))]; got == nil || *got != c.want {
			t.Errorf("%s: %+v, want %+v; its normal form is %s", name, got, c.want, normal([]byte(c.text)))
		}
	}
}

func TestRecognizeNoOtherScript(t *testing.T) {
	for _, text := range []string{
		``,
		`return redis.call('del',KEYS[1])`,
		`if redis.call('get',KEYS[1]) == ARGV[2] then return redis.call('del',KEYS[1]) else return 0 end`,
		`if redis.call('get',KEYS[2]) == ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end`,
		`if redis.call('get',KEYS[1]) == ARGV[1] then return redis.call('del',KEYS[2]) else return 0 end`,
		`if redis.call('get',KEYS[1]) ~= ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end`,
		`if redis.call('get',KEYS[1]) == ARGV[1] then return redis.call('del',KEYS[1]) else return 1 end`,
		`if redis.call('get',KEYS[1]) == ARGV[1] then redis.call('publish','c','x') return redis.call('del',KEYS[1]) ` +
			`else return 0 end`,
		`local ARGV = {KEYS[1]} if redis.call('get',KEYS[1]) == ARGV[1] then return redis.call('del',KEYS[1]) ` +
			`else return 0 end`,
		`local key = KEYS[1] key = KEYS[2] if redis.call('get', key) == ARGV[1] then return redis.call('del', key) ` +
			`end return 0`,
	} {
		if got := OfText([]byte(text)); got != nil {
			t.Errorf("%q is taken for %+v", text, *got)
		}
	}
}
