package command

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
)

// Merge appends to dst the one reply that the parts' replies amount to, for a
// command that went to several places. random picks among equals.
//
// An error of any part is the whole reply's error: the first one's, in the
// order of parts.
func (c *Command) Merge(dst []byte, parts [][]byte, random uint64) []byte {
	if c.AnySuffices() {
		return append(dst, best(parts)...)
	}
	for _, p := range parts {
		if len(p) > 0 && p[0] == '-' {
			return append(dst, p...)
		}
	}
	switch c.Name {
	case "keys":
		return mergeArrays(dst, parts)
	case "pubsub|channels", "pubsub|shardchannels":
		return mergeUnion(dst, parts)
	case "pubsub|numpat": // every node is told of the same patterns
		return mergeNumbers(dst, parts, func(a, b int64) int64 { return max(a, b) })
	case "script|exists":
		return mergeAnd(dst, parts)
	case "function|stats":
		return append(dst, busiest(parts)...)
	case "randomkey":
		return mergeRandom(dst, parts, random)
	case "info":
		return mergeInfo(dst, parts)
	case "wait", "lastsave":
		return mergeNumbers(dst, parts, func(a, b int64) int64 { return min(a, b) })
	}
	switch c.Response {
	case AggSum:
		return mergeNumbers(dst, parts, func(a, b int64) int64 { return a + b })
	case AggMin:
		return mergeNumbers(dst, parts, func(a, b int64) int64 { return min(a, b) })
	}
	return append(dst, parts[0]...)
}

// AnySuffices tells whether the command has succeeded when it has on one node:
// a script runs on one (COMMAND's tip one_succeeded).
func (c *Command) AnySuffices() bool { return c.Name == "script|kill" || c.Name == "function|kill" }

// best is the first success among replies, else the error that says most.
func best(parts [][]byte) []byte {
	said := parts[0]
	for _, p := range parts {
		if len(p) > 0 && p[0] != '-' {
			return p
		}
		if !bytes.HasPrefix(p, []byte("-NOTBUSY ")) {
			said = p
		}
	}
	return said
}

// busiest is the FUNCTION STATS of a node that runs something, else the first.
func busiest(parts [][]byte) []byte {
	for _, p := range parts {
		_, rest, ok := resp.Elements(p)
		if !ok {
			continue
		}
		_, rest, _ = resp.Split(rest) // "running_script"
		if running, _, ok := resp.Split(rest); ok && !resp.IsNull(running) {
			return p
		}
	}
	return parts[0]
}

// odd is the reply when a part is not of the type it must be.
func odd(dst []byte, part []byte) []byte {
	return resp.AppendError(dst, fmt.Sprintf("ERR keyway: a node's reply cannot be merged: %.40q", part))
}

func mergeNumbers(dst []byte, parts [][]byte, f func(a, b int64) int64) []byte {
	var acc int64
	for i, p := range parts {
		n, ok := resp.Int(p)
		if !ok {
			return odd(dst, p)
		}
		if i == 0 {
			acc = n
		} else {
			acc = f(acc, n)
		}
	}
	return resp.AppendInt(dst, acc)
}

func mergeArrays(dst []byte, parts [][]byte) []byte {
	total := 0
	for _, p := range parts {
		n, _, ok := resp.Elements(p)
		if !ok {
			return odd(dst, p)
		}
		total += n
	}
	dst = resp.AppendArray(dst, total)
	for _, p := range parts {
		_, elems, _ := resp.Elements(p)
		dst = append(dst, elems...)
	}
	return dst
}

// mergeUnion is every element of any array, once.
func mergeUnion(dst []byte, parts [][]byte) []byte {
	seen := map[string]bool{}
	var all []byte
	for _, p := range parts {
		n, rest, ok := resp.Elements(p)
		if !ok {
			return odd(dst, p)
		}
		for range n {
			var elem []byte
			if elem, rest, ok = resp.Split(rest); !ok {
				return odd(dst, p)
			}
			if !seen[string(elem)] {
				seen[string(elem)] = true
				all = append(all, elem...)
			}
		}
	}
	return append(resp.AppendArray(dst, len(seen)), all...)
}

// mergeAnd is agg_logical_and over arrays of 0 and 1.
func mergeAnd(dst []byte, parts [][]byte) []byte {
	var all []int64
	for i, p := range parts {
		n, elems, ok := resp.Elements(p)
		if !ok || i > 0 && n != len(all) {
			return odd(dst, p)
		}
		for k := range n {
			var e []byte
			if e, elems, ok = resp.Split(elems); !ok {
				return odd(dst, p)
			}
			v, _ := resp.Int(e)
			if i == 0 {
				all = append(all, v)
			} else {
				all[k] = min(all[k], v)
			}
		}
	}
	dst = resp.AppendArray(dst, len(all))
	for _, v := range all {
		dst = resp.AppendInt(dst, v)
	}
	return dst
}

func mergeRandom(dst []byte, parts [][]byte, random uint64) []byte {
	var some [][]byte
	for _, p := range parts {
		if !resp.IsNull(p) {
			some = append(some, p)
		}
	}
	if len(some) == 0 {
		return append(dst, parts[0]...)
	}
	return append(dst, some[random%uint64(len(some))]...)
}

// mergeInfo takes the first node's text and adds up the key counts of all.
// A cluster's nodes say so in INFO; to its clients keyway is one Redis.
func mergeInfo(dst []byte, parts [][]byte) []byte {
	first, ok := resp.Bulk(parts[0])
	if !ok {
		return odd(dst, parts[0])
	}
	counts := map[string][]int64{} // db0 -> keys, expires, avg_ttl
	for _, p := range parts {
		text, _ := resp.Bulk(p)
		for line := range strings.SplitSeq(string(text), "\r\n") {
			db, fields, ok := keyspaceLine(line)
			if !ok {
				continue
			}
			sum := counts[db]
			if sum == nil {
				sum = make([]int64, len(fields))
			}
			for i := range min(len(sum), len(fields)) {
				sum[i] += fields[i].value
			}
			counts[db] = sum
		}
	}
	var b bytes.Buffer
	for line := range strings.SplitSeq(string(first), "\r\n") {
		if _, _, ok := keyspaceLine(line); ok {
			continue
		}
		switch line {
		case "redis_mode:cluster":
			line = "redis_mode:standalone"
		case "cluster_enabled:1":
			line = "cluster_enabled:0"
		}
		b.WriteString(line + "\r\n")
		if line == "# Keyspace" {
			for _, db := range sortedDBs(counts) {
				b.WriteString(db + ":" + keyspaceFields(counts[db]) + "\r\n")
			}
		}
	}
	text := bytes.TrimSuffix(b.Bytes(), []byte("\r\n"))
	if parts[0][0] == '=' {
		return resp.AppendVerbatim(dst, text)
	}
	return resp.AppendBulk(dst, text)
}

type field struct {
	name  string
	value int64
}

// keyspaceLine reads "db0:keys=1,expires=0,avg_ttl=0".
func keyspaceLine(line string) (db string, fields []field, ok bool) {
	db, rest, ok := strings.Cut(line, ":keys=")
	if !ok || !strings.HasPrefix(db, "db") {
		return "", nil, false
	}
	for f := range strings.SplitSeq("keys="+rest, ",") {
		name, v, _ := strings.Cut(f, "=")
		n, _ := strconv.ParseInt(v, 10, 64)
		fields = append(fields, field{name, n})
	}
	return db, fields, true
}

// keyspaceFields words the sums; an average does not add up, and 0 is what
// Redis writes when it has none.
func keyspaceFields(sum []int64) string {
	names := []string{"keys", "expires", "avg_ttl", "subexpiry"}
	var out []string
	for i, v := range sum {
		if i >= len(names) {
			break
		}
		if names[i] == "avg_ttl" {
			v = 0
		}
		out = append(out, names[i]+"="+strconv.FormatInt(v, 10))
	}
	return strings.Join(out, ",")
}

func sortedDBs(m map[string][]int64) []string {
	dbs := make([]string, 0, len(m))
	for db := range m {
		dbs = append(dbs, db)
	}
	slices.Sort(dbs)
	return dbs
}

// MergeByKey appends one array of one element for each key of a Split command:
// part[k] is the index in parts of the reply that holds key k's, in order. The
// error of a part stands in the place of each of its keys. Each element of
// parts is consumed.
func MergeByKey(dst []byte, parts [][]byte, part []int32) []byte {
	dst = resp.AppendArray(dst, len(part))
	for i, p := range parts {
		if len(p) > 0 && p[0] == '*' {
			_, parts[i], _ = resp.Elements(p)
		}
	}
	for _, at := range part {
		p := parts[at]
		if len(p) > 0 && p[0] == '-' {
			dst = append(dst, p...)
			continue
		}
		elem, rest, ok := resp.Split(p)
		if !ok {
			dst = odd(dst, p)
			continue
		}
		dst = append(dst, elem...)
		parts[at] = rest
	}
	return dst
}
