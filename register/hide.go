package register

import (
	"bytes"
	"iter"

	"github.com/keyway-proxy/keyway/resp"
)

// elements yields the elements of an array or map.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		_, rest, ok := resp.Elements(array)
		for ok && len(rest) > 0 {
			var one []byte
			if one, rest, ok = resp.Split(rest); !ok || !yield(one) {
				return
			}
		}
	}
}

// Names returns the names of the libraries in a reply to FUNCTION LIST: those of clients, and
// the number of the records.
func Names(list []byte) (clients []string, records int) {
	for library := range elements(list) {
		if name := libraryName(library); IsRecord(name) {
			records++
		} else {
			clients = append(clients, string(name))
		}
	}
	return clients, records
}

// AppendList appends a reply to FUNCTION LIST without the records. It appends another reply
// unchanged.
func AppendList(dst, list []byte) []byte {
	clients, records := Names(list)
	if records == 0 {
		return append(dst, list...)
	}
	dst = resp.AppendArray(dst, len(clients))
	for library := range elements(list) {
		if !IsRecord(libraryName(library)) {
			dst = append(dst, library...)
		}
	}
	return dst
}

// AppendStats appends a reply to FUNCTION STATS that does not count the records, of which each
// has one function. It appends another reply unchanged.
func AppendStats(dst, stats []byte, records int) []byte {
	counts := valueOf(valueOf(stats, "engines"), "LUA")
	named := append(resp.AppendBulkString(nil, "LUA"), counts...)
	at := bytes.LastIndex(stats, named) // the client's arguments in front may look alike
	if counts == nil || at < 0 {
		return append(dst, stats...)
	}
	_, rest, _ := resp.Elements(counts)
	dst = append(dst, stats[:at+len(named)-len(rest)]...)
	for e := range elements(counts) {
		if n, ok := resp.Int(e); ok {
			dst = resp.AppendInt(dst, max(0, n-int64(records)))
		} else {
			dst = append(dst, e...)
		}
	}
	return append(dst, stats[at+len(named):]...)
}

// valueOf returns the value of a name in a map, or in an array of names and values. It is nil
// if there is none.
func valueOf(pairs []byte, name string) []byte {
	isKey, found := true, false
	for e := range elements(pairs) {
		if found {
			return e
		}
		text, _ := resp.Bulk(e)
		found = isKey && string(text) == name
		isKey = !isKey
	}
	return nil
}
