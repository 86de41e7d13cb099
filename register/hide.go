package register

import (
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
