package metrics

import (
	"bytes"
	"slices"
)

// ErrorWords are the first words of error replies that are counted each for itself. OtherError stands
// for all others: scripts and modules choose the words of their errors.
var ErrorWords = [...]string{
	"ASK", "BUSY", "BUSYGROUP", "BUSYKEY", "CLUSTERDOWN", "CROSSSLOT", "ERR", "EXECABORT", "LOADING", "MASTERDOWN",
	"MISCONF", "MOVED", "NOAUTH", "NOGROUP", "NOPERM", "NOREPLICAS", "NOSCRIPT", "NOTBUSY", "OOM", "READONLY",
	"TRYAGAIN", "UNKILLABLE", "WRONGPASS", "WRONGTYPE", OtherError,
}

// OtherError is the word for errors whose first word is not in [ErrorWords].
const OtherError = "other"

var errorIndex = func() map[string]int {
	index := map[string]int{}
	for i, word := range ErrorWords {
		index[word] = i
	}
	return index
}()

// ErrorReplies counts error replies by their first word, in the order of [ErrorWords].
type ErrorReplies [len(ErrorWords)]uint64

// Count counts an error reply, such as "-ERR unknown command\r\n".
func (e *ErrorReplies) Count(reply []byte) {
	word := reply[1:]
	if end := bytes.IndexAny(word, " \r\n"); end >= 0 {
		word = word[:end]
	}
	if i, ok := errorIndex[string(word)]; ok {
		e[i]++
	} else {
		e[len(e)-1]++
	}
}

// Of returns the count of one of [ErrorWords].
func (e *ErrorReplies) Of(word string) uint64 { return e[slices.Index(ErrorWords[:], word)] }

// Total returns the number of all errors.
func (e *ErrorReplies) Total() (n uint64) {
	for _, count := range e {
		n += count
	}
	return n
}

// Refused returns the number of all errors but MOVED and ASK, which are no failures.
func (e *ErrorReplies) Refused() uint64 { return e.Total() - e.Of("MOVED") - e.Of("ASK") }

func (e *ErrorReplies) add(o *ErrorReplies) {
	for i, n := range o {
		e[i] += n
	}
}
