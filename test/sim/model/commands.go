package model

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
)

// row describes a command.
type row struct {
	run         func(c *Conn, args []string) []byte
	arity       int // with the name; negative: at least
	keys        keys
	writes      bool
	needsMemory bool
	calls       bool // it executes other commands
}

// keys says where the keys of a command are.
type keys uint8

const (
	noKeys keys = iota
	oneKey
	twoKeys
	allKeys
	pairs    // of keys and values
	butLast  // all but the last argument
	numbered // the number of keys is the second argument
	second   // the second argument
)

func (r row) keysOf(args []string) []string {
	switch r.keys {
	case oneKey:
		return args[1:2]
	case twoKeys:
		return args[1:3]
	case allKeys:
		return args[1:]
	case pairs:
		var all []string
		for i := 1; i < len(args); i += 2 {
			all = append(all, args[i])
		}
		return all
	case butLast:
		return args[1 : len(args)-1]
	case second:
		return args[min(2, len(args)):min(3, len(args))]
	case numbered:
		n, _ := strconv.Atoi(args[2])
		return args[3:min(3+max(n, 0), len(args))]
	}
	return nil
}

func upper(s string) string { return strings.ToUpper(s) }

var commands map[string]row

func init() { // the commands that call others refer to the table
	commands = map[string]row{
		"PING": {run: ping, arity: -1}, "ECHO": {run: echo, arity: 2}, "HELLO": {run: hello, arity: -1},
		"CLIENT": {run: client, arity: -2}, "ASKING": {run: asking, arity: 1}, "SELECT": {run: ok, arity: 2},
		"AUTH": {run: ok, arity: -2}, "TIME": {run: clock, arity: 1}, "WAIT": {run: waitForReplicas, arity: 3},
		"ROLE": {run: role, arity: 1}, "INFO": {run: info, arity: -1}, "DBSIZE": {run: dbsize, arity: 1},
		"FLUSHALL": {run: flushAll, arity: -1, writes: true}, "SCAN": {run: scan, arity: -2},
		"KEYS":     {run: keysLike, arity: 2},
		"FUNCTION": {run: function, arity: -2, writes: true},
		"SCRIPT":   {run: script, arity: -2},
		"MULTI":    {run: multi, arity: 1}, "EXEC": {run: execAlone, arity: 1}, "DISCARD": {run: discard, arity: 1},
		"WATCH": {run: watch, arity: -2, keys: allKeys}, "UNWATCH": {run: unwatch, arity: 1},

		"EVAL":    {run: eval, arity: -3, keys: numbered, calls: true},
		"EVALSHA": {run: evalSHA, arity: -3, keys: numbered, calls: true},

		"EXISTS": {run: exists, arity: -2, keys: allKeys}, "TYPE": {run: typeOf, arity: 2, keys: oneKey},
		"DEL":    {run: del, arity: -2, keys: allKeys, writes: true},
		"UNLINK": {run: del, arity: -2, keys: allKeys, writes: true},
		"TTL":    {run: ttl(1000, false), arity: 2, keys: oneKey}, "PTTL": {run: ttl(1, false), arity: 2, keys: oneKey},
		"EXPIRETIME":  {run: ttl(1000, true), arity: 2, keys: oneKey},
		"PEXPIRETIME": {run: ttl(1, true), arity: 2, keys: oneKey},
		"EXPIRE":      {run: expireIn(1000, false), arity: 3, keys: oneKey, writes: true},
		"PEXPIRE":     {run: expireIn(1, false), arity: 3, keys: oneKey, writes: true},
		"EXPIREAT":    {run: expireIn(1000, true), arity: 3, keys: oneKey, writes: true},
		"PEXPIREAT":   {run: expireIn(1, true), arity: 3, keys: oneKey, writes: true},
		"PERSIST":     {run: persist, arity: 2, keys: oneKey, writes: true},
		"RENAMENX":    {run: renameNX, arity: 3, keys: twoKeys, writes: true},
		"MEMORY":      {run: memory, arity: -2, keys: second},
		"OBJECT":      {run: object, arity: -2, keys: second},
		"DUMP":        {run: dump, arity: 2, keys: oneKey},
		"RESTORE":     {run: restore, arity: -4, keys: oneKey, writes: true, needsMemory: true},

		"GET": {run: get, arity: 2, keys: oneKey}, "STRLEN": {run: strlen, arity: 2, keys: oneKey},
		"SET":    {run: set, arity: -3, keys: oneKey, writes: true, needsMemory: true},
		"MGET":   {run: mget, arity: -2, keys: allKeys},
		"MSET":   {run: mset, arity: -3, keys: pairs, writes: true, needsMemory: true},
		"INCR":   {run: incr, arity: 2, keys: oneKey, writes: true, needsMemory: true},
		"INCRBY": {run: incr, arity: 3, keys: oneKey, writes: true, needsMemory: true},
		"APPEND": {run: appendText, arity: 3, keys: oneKey, writes: true, needsMemory: true},

		"RPUSH": {run: push(true), arity: -3, keys: oneKey, writes: true, needsMemory: true},
		"LPUSH": {run: push(false), arity: -3, keys: oneKey, writes: true, needsMemory: true},
		"LPOP":  {run: pop(true), arity: 2, keys: oneKey, writes: true},
		"RPOP":  {run: pop(false), arity: 2, keys: oneKey, writes: true},
		"LLEN":  {run: llen, arity: 2, keys: oneKey}, "LRANGE": {run: lrange, arity: 4, keys: oneKey},
		"BLPOP": {run: blockingPop(true), arity: -3, keys: butLast, writes: true},
		"BRPOP": {run: blockingPop(false), arity: -3, keys: butLast, writes: true},
	}
}

func ok(*Conn, []string) []byte { return resp.AppendOK(nil) }

func ping(_ *Conn, args []string) []byte {
	if len(args) > 1 {
		return resp.AppendBulkString(nil, args[1])
	}
	return resp.AppendSimple(nil, "PONG")
}

func echo(_ *Conn, args []string) []byte { return resp.AppendBulkString(nil, args[1]) }

func asking(c *Conn, _ []string) []byte {
	c.asking = true
	return resp.AppendOK(nil)
}

func clock(c *Conn, _ []string) []byte {
	micros := c.node.Clock() / 1000
	b := resp.AppendBulkString(resp.AppendArray(nil, 2), strconv.FormatInt(micros/1e6, 10))
	return resp.AppendBulkString(b, strconv.FormatInt(micros%1e6, 10))
}

func role(c *Conn, _ []string) []byte {
	b := resp.AppendInt(resp.AppendBulkString(resp.AppendArray(nil, 3), "master"), c.node.stream.end())
	return resp.AppendArray(b, 0)
}

// info has what keyway asks for, of all sections.
func info(c *Conn, _ []string) []byte {
	n := c.node
	text := fmt.Sprintf("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:%s\r\n"+
		"# Memory\r\nmaxmemory_policy:noeviction\r\n"+
		"# Replication\r\nrole:master\r\nconnected_slaves:%d\r\nmaster_replid:%s\r\nmaster_repl_offset:%d\r\n"+
		"# Keyspace\r\n",
		n.runID(), len(n.stream.replicas), n.runID(), n.stream.end())
	if keys := len(n.data.entries); keys > 0 {
		text += fmt.Sprintf("db0:keys=%d,expires=%d,avg_ttl=0\r\n", keys, len(n.data.expiring))
	}
	return c.protocol().AppendText(nil, []byte(text))
}

// memory executes MEMORY USAGE.
func memory(c *Conn, args []string) []byte {
	if upper(args[1]) != "USAGE" || len(args) < 3 {
		c.node.unknown(args)
		return errorReply("ERR unknown subcommand '" + args[1] + "'. Try MEMORY HELP.")
	}
	e := c.node.data.entries[args[2]]
	if e == nil {
		return c.null()
	}
	return resp.AppendInt(nil, int64(e.size()))
}

// sha returns the name of a script in the cache.
func sha(text string) string {
	sum := sha1.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

func script(c *Conn, args []string) []byte {
	n := c.node
	switch upper(args[1]) {
	case "LOAD":
		n.cached[sha(args[2])] = args[2]
		return resp.AppendBulkString(nil, sha(args[2]))
	case "EXISTS":
		b := resp.AppendArray(nil, len(args)-2)
		for _, s := range args[2:] {
			_, known := n.cached[strings.ToLower(s)]
			b = resp.AppendInt(b, map[bool]int64{true: 1}[known])
		}
		return b
	case "FLUSH":
		n.ForgetScripts()
		return resp.AppendOK(nil)
	}
	n.unknown(args)
	return errorReply("ERR unknown subcommand '" + args[1] + "'. Try SCRIPT HELP.")
}

func evalSHA(c *Conn, args []string) []byte {
	text, known := c.node.cached[strings.ToLower(args[1])]
	if !known {
		return errorReply("NOSCRIPT No matching script. Please use EVAL.")
	}
	return eval(c, append([]string{"EVAL", text}, args[2:]...))
}

func eval(c *Conn, args []string) []byte {
	n := c.node
	count, err := strconv.Atoi(args[2])
	switch {
	case err != nil:
		return errorReply(notInteger)
	case count < 0:
		return errorReply("ERR Number of keys can't be negative")
	case count > len(args)-3:
		return errorReply("ERR Number of keys can't be greater than number of args")
	}
	run, known := n.Scripts[args[1]]
	if !known {
		n.unknown(args)
		return errorReply("ERR Error compiling script")
	}
	n.cached[sha(args[1])] = args[1]
	inBlock := c.inBlock
	c.inBlock = true
	defer func() { c.inBlock = inBlock }()
	call := func(call ...string) []byte {
		reply := c.run(call)
		if text, isErr := resp.ErrorText(reply); isErr { // redis.call ends the script
			return errorReply(string(text) + " script: " + sha(args[1]) + ", on @user_script:1.")
		}
		return reply
	}
	return run(call, args[3:3+count], args[3+count:])
}

// function executes the commands on libraries of functions.
func function(c *Conn, args []string) []byte {
	n := c.node
	switch upper(args[1]) {
	case "LIST":
		return c.listFunctions(args[2:])
	case "LOAD":
		code := args[len(args)-1]
		name, _, found := strings.Cut(strings.TrimPrefix(code, "#!lua name="), "\n")
		_, exists := n.libraries[name]
		switch {
		case !found:
			return errorReply("ERR Missing library metadata")
		case n.isFull():
			return errorReply(noMemory)
		case exists && !strings.EqualFold(args[2], "REPLACE"):
			return errorReply("ERR Library '" + name + "' already exists")
		}
		n.setLibrary(name, code)
		if n.Hooks.Loaded != nil {
			n.Hooks.Loaded(name, code)
		}
		return resp.AppendBulkString(nil, name)
	case "DELETE":
		if _, exists := n.libraries[args[2]]; !exists {
			return errorReply("ERR Library not found")
		}
		n.setLibrary(args[2], "")
		return resp.AppendOK(nil)
	case "FLUSH":
		for _, name := range n.Libraries() {
			n.setLibrary(name, "")
		}
		return resp.AppendOK(nil)
	}
	n.unknown(args)
	return errorReply("ERR unknown subcommand '" + args[1] + "'. Try FUNCTION HELP.")
}

// setLibrary creates a library. Without code it deletes it.
func (n *Node) setLibrary(name, code string) {
	n.libraries[name] = code
	if code == "" {
		delete(n.libraries, name)
	}
	n.stream.append(effect{library: name, code: code})
}

// listFunctions executes FUNCTION LIST. Each library of the model has one function, of its name.
func (c *Conn) listFunctions(args []string) []byte {
	pattern, withCode := "*", false
	for i := 0; i < len(args); i++ {
		switch {
		case strings.EqualFold(args[i], "WITHCODE"):
			withCode = true
		case strings.EqualFold(args[i], "LIBRARYNAME") && i+1 < len(args):
			i++
			pattern = args[i]
		default:
			return errorReply("ERR Unknown argument " + args[i])
		}
	}
	names := slices.DeleteFunc(c.node.Libraries(), func(s string) bool { return !matches(pattern, s) })
	c.Epoch = 0
	v := c.protocol()
	b := resp.AppendArray(nil, len(names))
	for _, name := range names {
		code := c.node.libraries[name]
		if number, found := strings.CutPrefix(name, "keyway_"); found {
			epoch, _ := strconv.ParseInt(number, 10, 64)
			c.Epoch = max(c.Epoch, epoch)
		}
		fields := 3
		if withCode {
			fields = 4
		}
		b = v.AppendMap(b, fields)
		b = resp.AppendBulkString(resp.AppendBulkString(b, "library_name"), name)
		b = resp.AppendBulkString(resp.AppendBulkString(b, "engine"), "LUA")
		b = resp.AppendArray(resp.AppendBulkString(b, "functions"), 1)
		b = resp.AppendBulkString(resp.AppendBulkString(v.AppendMap(b, 3), "name"), name)
		b = v.AppendNull(resp.AppendBulkString(b, "description"))
		flags := []string{}
		for _, f := range []string{"no-writes", "allow-stale"} {
			if strings.Contains(code, "'"+f+"'") {
				flags = append(flags, f)
			}
		}
		b = v.AppendSet(resp.AppendBulkString(b, "flags"), len(flags))
		for _, f := range flags {
			b = resp.AppendSimple(b, f)
		}
		if withCode {
			b = resp.AppendBulkString(resp.AppendBulkString(b, "library_code"), code)
		}
	}
	return b
}
