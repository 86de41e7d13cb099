package command

import (
	"bytes"
	"fmt"

	"github.com/keyway-proxy/keyway/resp"
)

// Merge merges the replies of a command that was sent to several nodes, and appends the
// result to dst. random selects one of several equally good replies.
//
// If any reply is an error, the result is the first error in the order of the calls. Commands
// for which AnySuffices is true are the exception.
func (c *Command) Merge(dst []byte, replies [][]byte, random uint64) []byte {
	if c.AnySuffices() {
		return append(dst, best(replies)...)
	}
	for _, p := range replies {
		if len(p) > 0 && p[0] == '-' {
			return append(dst, p...)
		}
	}
	switch c.Response {
	case AggSum:
		return MergeSum(dst, replies)
	case AggMin:
		return mergeNumbers(dst, replies, func(a, b int64) int64 { return min(a, b) })
	case aggMax:
		return mergeNumbers(dst, replies, func(a, b int64) int64 { return max(a, b) })
	case AggLogicalAnd, leastEach:
		return mergeLeast(dst, replies)
	case arraysOf:
		return MergeArrays(dst, replies)
	case unionOf:
		return mergeUnion(dst, replies)
	case oneOf:
		return mergeRandom(dst, replies, random)
	case busiestOf:
		return append(dst, busiest(replies)...)
	case aggByName:
		return mergeByName(dst, replies)
	}
	return append(dst, replies[0]...)
}

// AnySuffices reports whether the command succeeds if it succeeds on one node.
func (c *Command) AnySuffices() bool { return c.Response == OneSucceeded }

// best returns the first reply that is not an error. If all are errors, it returns the most
// informative one: the last that is not NOTBUSY, else the first.
func best(replies [][]byte) []byte {
	failure := replies[0]
	for _, p := range replies {
		if len(p) > 0 && p[0] != '-' {
			return p
		}
		if !bytes.HasPrefix(p, []byte("-NOTBUSY ")) {
			failure = p
		}
	}
	return failure
}

// busiest returns the first FUNCTION STATS reply of a node that is executing a script or
// function, else the first reply.
func busiest(replies [][]byte) []byte {
	for _, p := range replies {
		_, rest, ok := resp.Elements(p)
		if !ok {
			continue
		}
		_, rest, _ = resp.Split(rest) // "running_script"
		if running, _, ok := resp.Split(rest); ok && !resp.IsNull(running) {
			return p
		}
	}
	return replies[0]
}

// cannotMerge appends the error for a reply that does not have the expected type.
func cannotMerge(dst []byte, reply []byte) []byte {
	return resp.AppendError(dst, fmt.Sprintf("ERR keyway: a node's reply cannot be merged: %.40q", reply))
}

// MergeSum appends the sum of all numbers.
func MergeSum(dst []byte, replies [][]byte) []byte {
	return mergeNumbers(dst, replies, func(a, b int64) int64 { return a + b })
}

func mergeNumbers(dst []byte, replies [][]byte, f func(a, b int64) int64) []byte {
	var acc int64
	for i, p := range replies {
		n, ok := resp.Int(p)
		if !ok {
			return cannotMerge(dst, p)
		}
		if i == 0 {
			acc = n
		} else {
			acc = f(acc, n)
		}
	}
	return resp.AppendInt(dst, acc)
}

// MergeArrays appends one array of the elements of all arrays, in order.
func MergeArrays(dst []byte, replies [][]byte) []byte {
	total := 0
	for _, p := range replies {
		n, _, ok := resp.Elements(p)
		if !ok {
			return cannotMerge(dst, p)
		}
		total += n
	}
	dst = resp.AppendArray(dst, total)
	for _, p := range replies {
		_, elems, _ := resp.Elements(p)
		dst = append(dst, elems...)
	}
	return dst
}

// mergeUnion appends an array of the elements of all arrays, each once.
func mergeUnion(dst []byte, replies [][]byte) []byte {
	seen := map[string]bool{}
	var all []byte
	for _, p := range replies {
		n, rest, ok := resp.Elements(p)
		if !ok {
			return cannotMerge(dst, p)
		}
		for range n {
			var elem []byte
			if elem, rest, ok = resp.Split(rest); !ok {
				return cannotMerge(dst, p)
			}
			if !seen[string(elem)] {
				seen[string(elem)] = true
				all = append(all, elem...)
			}
		}
	}
	return append(resp.AppendArray(dst, len(seen)), all...)
}

// mergeLeast appends an array with the minimum of each position of arrays of numbers. For 0
// and 1 that is agg_logical_and.
func mergeLeast(dst []byte, replies [][]byte) []byte {
	var all []int64
	for i, p := range replies {
		n, elems, ok := resp.Elements(p)
		if !ok || i > 0 && n != len(all) {
			return cannotMerge(dst, p)
		}
		for k := range n {
			var e []byte
			if e, elems, ok = resp.Split(elems); !ok {
				return cannotMerge(dst, p)
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

func mergeRandom(dst []byte, replies [][]byte, random uint64) []byte {
	var some [][]byte
	for _, p := range replies {
		if !resp.IsNull(p) {
			some = append(some, p)
		}
	}
	if len(some) == 0 {
		return append(dst, replies[0]...)
	}
	return append(dst, some[random%uint64(len(some))]...)
}

// MergeByKey appends an array with one element for each key of a Split command. from[k] is
// the index in replies of the reply with the element of key k. The elements of each reply
// are in the order of its keys. If a reply is an error, it becomes the element of each of
// its keys. MergeByKey modifies replies.
func MergeByKey(dst []byte, replies [][]byte, from []int32) []byte {
	dst = resp.AppendArray(dst, len(from))
	var errs []bool // for each reply, whether it is not an array; nil if all are
	for i, p := range replies {
		if len(p) > 0 && p[0] == '*' {
			_, replies[i], _ = resp.Elements(p)
			continue
		}
		if errs == nil {
			errs = make([]bool, len(replies))
		}
		errs[i] = true
	}
	for _, at := range from {
		p := replies[at]
		if errs != nil && errs[at] && len(p) > 0 && p[0] == '-' {
			dst = append(dst, p...)
			continue
		}
		elem, rest, ok := resp.Split(p)
		if !ok || errs != nil && errs[at] {
			dst = cannotMerge(dst, p)
			continue
		}
		dst = append(dst, elem...)
		replies[at] = rest
	}
	return dst
}
