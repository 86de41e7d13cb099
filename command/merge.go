package command

import (
	"bytes"
	"fmt"

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
	switch c.Response {
	case AggSum:
		return mergeNumbers(dst, parts, func(a, b int64) int64 { return a + b })
	case AggMin:
		return mergeNumbers(dst, parts, func(a, b int64) int64 { return min(a, b) })
	case aggMax:
		return mergeNumbers(dst, parts, func(a, b int64) int64 { return max(a, b) })
	case AggLogicalAnd, leastEach:
		return mergeLeast(dst, parts)
	case arraysOf:
		return mergeArrays(dst, parts)
	case unionOf:
		return mergeUnion(dst, parts)
	case oneOf:
		return mergeRandom(dst, parts, random)
	case busiestOf:
		return append(dst, busiest(parts)...)
	case infoTexts:
		return mergeInfo(dst, parts)
	case aggByName:
		return mergeByName(dst, parts)
	}
	return append(dst, parts[0]...)
}

// AnySuffices reports whether the command has succeeded when it has on one node.
func (c *Command) AnySuffices() bool { return c.Response == OneSucceeded }

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

// mergeLeast is the least number in each place of arrays of numbers, which for 0
// and 1 is agg_logical_and.
func mergeLeast(dst []byte, parts [][]byte) []byte {
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

// MergeByKey appends one array of one element for each key of a Split command:
// part[k] is the index in parts of the reply that holds key k's, in order. The
// error of a part stands in the place of each of its keys. Each element of
// parts is consumed.
func MergeByKey(dst []byte, parts [][]byte, part []int32) []byte {
	dst = resp.AppendArray(dst, len(part))
	var errs []bool // the parts that are no array, if there are any
	for i, p := range parts {
		if len(p) > 0 && p[0] == '*' {
			_, parts[i], _ = resp.Elements(p)
			continue
		}
		if errs == nil {
			errs = make([]bool, len(parts))
		}
		errs[i] = true
	}
	for _, at := range part {
		p := parts[at]
		if errs != nil && errs[at] && len(p) > 0 && p[0] == '-' {
			dst = append(dst, p...)
			continue
		}
		elem, rest, ok := resp.Split(p)
		if !ok || errs != nil && errs[at] {
			dst = odd(dst, p)
			continue
		}
		dst = append(dst, elem...)
		parts[at] = rest
	}
	return dst
}
