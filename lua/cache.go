package lua

import (
	"bytes"
	"crypto/sha1"
	"hash/maphash"
	"reflect"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// The limits of a cache. Beyond the first two, the oldest scripts are evicted.
const (
	maxScripts = 8192
	maxBytes   = 16 << 20
	maxWarned  = 1024 // names that Warn remembers
)

// NoNode is the number of no node. It stands for a node that has run no script.
const NoNode = ^uint(0)

// seed is secret, so that clients cannot choose texts that collide. All caches share it, so
// that two runs of one simulation in a process have the same collisions.
var seed = maphash.MakeSeed()

// Cache remembers the scripts that clients have sent, so that keyway can send the text to a
// node that lacks it. Clients of a single Redis load a script once and rely on that.
type Cache struct {
	perKey PerKeyScripts
	bySHA  map[string]script // by hex SHA-1
	byHash map[uint64]string // maphash of the text -> SHA-1, so that EVAL need not compute a SHA-1 each time
	order  []string          // SHA-1s, the oldest script first
	bytes  int               // size of all texts
	run    map[uint]map[string]bool
	warned map[string]bool
}

// script is a script that keyway knows.
type script struct {
	text     []byte
	perKey   *PerKey // how it can be split; nil: it cannot
	harmless bool    // it surely writes nothing
	declared declared
}

// NewCache returns an empty cache that recognizes these per-key scripts.
func NewCache(perKey PerKeyScripts) *Cache {
	c := &Cache{perKey: perKey, run: map[uint]map[string]bool{}, warned: map[string]bool{}}
	c.Clear()
	return c
}

// SetPerKey changes the per-key scripts that the cache recognizes, also those that it has.
func (c *Cache) SetPerKey(perKey PerKeyScripts) {
	if reflect.DeepEqual(c.perKey, perKey) {
		return
	}
	c.perKey = perKey
	for sha, s := range c.bySHA {
		s.perKey = perKey.find(sha, s.text)
		c.bySHA[sha] = s
	}
}

// Clear forgets all scripts, as SCRIPT FLUSH does. What is known of the nodes stays: each
// says NOSCRIPT when it lacks a script.
func (c *Cache) Clear() {
	c.bySHA, c.byHash = map[string]script{}, map[uint64]string{}
	c.order, c.bytes = nil, 0
}

// Text returns the text of the script with a hex SHA-1, in upper or lower case, or nil if it
// is unknown.
func (c *Cache) Text(sha []byte) []byte { return c.get(sha).text }

func (c *Cache) get(sha []byte) script {
	if len(sha) != 2*sha1.Size {
		return script{}
	}
	var lower [2 * sha1.Size]byte // bytes.ToLower would allocate
	for i, digit := range sha {
		if lower[i] = digit; 'A' <= digit && digit <= 'F' {
			lower[i] |= 0x20
		}
	}
	return c.bySHA[string(lower[:])]
}

// find returns the script of an EVAL or EVALSHA. Its text is nil if it is unknown.
func (c *Cache) find(cmd *command.Command, a command.Args) script {
	if !cmd.Is(command.TakesScript) {
		return c.get(a.Arg(1))
	}
	known := c.bySHA[c.byHash[maphash.Bytes(seed, a.Arg(1))]]
	if !bytes.Equal(known.text, a.Arg(1)) {
		return script{}
	}
	return known
}

// Add remembers a script. It returns true if the script is new. It ignores scripts larger
// than a quarter of the cache.
func (c *Cache) Add(text []byte) bool {
	h := maphash.Bytes(seed, text)
	if sha, ok := c.byHash[h]; ok && bytes.Equal(c.bySHA[sha].text, text) {
		return false
	}
	if len(text) > maxBytes/4 {
		return false
	}
	sha := SHA1(text)
	if _, ok := c.bySHA[sha]; ok {
		return false
	}
	for len(c.order) >= maxScripts || c.bytes+len(text) > maxBytes {
		c.evict()
	}
	harmless := noWrites(text) || callsNothing(text)
	c.bySHA[sha] = script{
		text: append([]byte{}, text...), perKey: c.perKey.find(sha, text),
		harmless: harmless, declared: declaredBy(text),
	}
	c.byHash[h] = sha
	c.order = append(c.order, sha)
	c.bytes += len(text)
	return true
}

func (c *Cache) evict() {
	sha := c.order[0]
	c.order = c.order[1:]
	text := c.bySHA[sha].text
	c.bytes -= len(text)
	delete(c.bySHA, sha)
	delete(c.byHash, maphash.Bytes(seed, text))
}

// PerKey returns how the script of an EVAL or EVALSHA can be split, or nil if it cannot.
// known reports whether the cache has the script.
func (c *Cache) PerKey(cmd *command.Command, a command.Args) (p *PerKey, known bool) {
	s := c.find(cmd, a)
	return s.perKey, s.text != nil
}

// Eval returns the name (EVAL or EVAL_RO) and the text that have to replace the name and the
// SHA-1 of an EVALSHA for a node. The text is nil if the EVALSHA goes as it is: the node has
// run the script, the cache lacks it, or cmd is no EVALSHA.
func (c *Cache) Eval(cmd *command.Command, node uint, sha []byte) (name string, text []byte) {
	if !cmd.Is(command.TakesSHA) || c.run[node][string(sha)] {
		return "", nil
	}
	if text = c.Text(sha); cmd.Has(command.ReadOnly) {
		return "EVAL_RO", text
	}
	return "EVAL", text
}

// AppendEval appends an EVALSHA as the EVAL of its script, if it may not go to the node as it
// is; see Eval. Otherwise it appends nothing. Redis never answers EVAL with NOSCRIPT, so the
// reply leaves no doubt.
func (c *Cache) AppendEval(dst []byte, cmd *command.Command, node uint, a command.Args) []byte {
	if !cmd.Is(command.TakesSHA) {
		return dst
	}
	name, text := c.Eval(cmd, node, a.Arg(1))
	if text == nil {
		return dst
	}
	dst = resp.AppendArray(dst, a.Len())
	dst = resp.AppendBulkString(dst, name)
	dst = resp.AppendBulk(dst, text)
	return append(dst, a.Tail(2)...)
}

// Ran records that a node has executed the EVAL in frame, and so has the script.
func (c *Cache) Ran(node uint, frame []byte) {
	var p resp.Parser
	if _, st, err := p.Next(frame, &resp.DefaultLimits); err != nil || st != resp.Ready || p.Len() < 2 {
		return
	}
	sha, known := c.byHash[maphash.Bytes(seed, p.Arg(1))]
	if !known {
		return
	}
	if c.run[node] == nil || len(c.run[node]) >= maxScripts {
		c.run[node] = map[string]bool{}
	}
	c.run[node][sha] = true
}

// Lacks records that a node has answered NOSCRIPT to this SHA-1.
func (c *Cache) Lacks(node uint, sha string) { delete(c.run[node], sha) }

// Forget forgets which scripts a node has run. A node that restarts may lack them.
func (c *Cache) Forget(node uint) { delete(c.run, node) }

// AppendKnown appends 1 for each script of a SCRIPT EXISTS that the cache has, and 0 for the
// others. EVALSHA works for a script of the cache, even if no node has it.
func (c *Cache) AppendKnown(dst []int32, a command.Args) []int32 {
	for i := 2; i < a.Len(); i++ {
		known := int32(0)
		if c.Text(a.Arg(i)) != nil {
			known = 1
		}
		dst = append(dst, known)
	}
	return dst
}

// AppendExists appends the nodes' reply to SCRIPT EXISTS, with a 1 for each script that known
// has; see AppendKnown.
func AppendExists(dst, reply []byte, known []int32) []byte {
	n, rest, ok := resp.Elements(reply)
	if !ok || n != len(known) {
		return append(dst, reply...)
	}
	dst = resp.AppendArray(dst, n)
	for _, k := range known {
		var exists []byte
		if exists, rest, _ = resp.Split(rest); k == 1 {
			exists = []byte(":1\r\n")
		}
		dst = append(dst, exists...)
	}
	return dst
}

// MayWrite reports whether the script of an EVAL or EVALSHA may write. It does not look into
// functions: these may.
func (c *Cache) MayWrite(cmd *command.Command, a command.Args) bool { return !c.find(cmd, a).harmless }

// DeclaresNoWrites reports whether cmd is an EVAL or EVALSHA whose script is known to have the
// flag no-writes.
func (c *Cache) DeclaresNoWrites(cmd *command.Command, a command.Args) bool {
	switch {
	case cmd.Is(command.TakesScript):
		return noWrites(a.Arg(1))
	case cmd.Is(command.TakesSHA):
		return noWrites(c.Text(a.Arg(1)))
	}
	return false
}

// Warn records that the operator is warned of a script. It returns false if the name has been
// recorded already, or if there are too many names.
func (c *Cache) Warn(name string) bool {
	if c.warned[name] || len(c.warned) >= maxWarned {
		return false
	}
	c.warned[name] = true
	return true
}

// Name returns the SHA-1 of a command's script, or the name of its function.
func Name(cmd *command.Command, a command.Args) string {
	if cmd.Is(command.TakesScript) {
		return SHA1(a.Arg(1))
	}
	return string(bytes.ToLower(a.Arg(1)))
}

// noWrites reports whether the flags in a script's shebang, such as
// #!lua flags=no-writes,allow-stale, contain no-writes.
func noWrites(text []byte) bool {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	if !bytes.HasPrefix(line, []byte("#!")) {
		return false
	}
	for _, word := range bytes.Fields(line) {
		if flags, ok := bytes.CutPrefix(word, []byte("flags=")); ok {
			for flag := range bytes.SplitSeq(flags, []byte(",")) {
				if string(flag) == "no-writes" {
					return true
				}
			}
		}
	}
	return false
}

// callsNothing reports whether a script surely calls no command: a call is redis.call,
// redis.pcall or server.call.
func callsNothing(text []byte) bool { return !bytes.Contains(text, []byte("call")) }
