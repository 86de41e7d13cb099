package freshness

import "github.com/keyway-proxy/keyway/resp"

// Read is a read from a replica. Its caller keeps it at the same address from Reads.Add to
// Reads.Remove.
type Read struct {
	Keys  int32  // number of keys
	Group int32  // the group of keys that they belong to
	Key   uint64 // the hash of the only key
	Since int64  // when the client last wrote one of the keys; see Writes.Since
	next  *Read  // in its chain
}

// Reads are a client's reads that are in flight to replicas. In a pipeline of any length, a
// write quickly finds those that it must wait for.
type Reads struct {
	n       int
	byKey   [64]chain // by the hash of the only key
	byGroup [16]chain // by the group of several keys
}

// chain is in the order in which the reads were sent, which is about the order of their ends.
type chain struct{ first, last *Read }

func (r *Reads) chain(read *Read) *chain {
	if read.Keys > 1 {
		return r.ofGroup(read.Group)
	}
	return r.ofKey(read.Key)
}

func (r *Reads) ofKey(hash uint64) *chain { return &r.byKey[hash%uint64(len(r.byKey))] }
func (r *Reads) ofGroup(group int32) *chain {
	return &r.byGroup[uint32(group)%uint32(len(r.byGroup))]
}

// Add adds a read that is sent to a replica.
func (r *Reads) Add(read *Read) {
	at := r.chain(read)
	if at.first == nil {
		at.first = read
	} else {
		at.last.next = read
	}
	at.last = read
	r.n++
}

// Remove removes a read that was added.
func (r *Reads) Remove(read *Read) {
	at := r.chain(read)
	if at.first == read {
		at.first = read.next
	} else {
		before := at.first
		for before.next != read {
			before = before.next
		}
		if before.next = read.next; at.last == read {
			at.last = before
		}
	}
	read.next = nil
	r.n--
}

// Any reports whether any read is in flight. r may be nil.
func (r *Reads) Any() bool { return r != nil && r.n > 0 }

// Has reports whether a read of the key, or of several keys of its group, is in flight. A write
// of the key must wait for such a read.
func (r *Reads) Has(key uint64, group int32) bool {
	for read := r.ofKey(key).first; read != nil; read = read.next {
		if read.Key == key {
			return true
		}
	}
	for read := r.ofGroup(group).first; read != nil; read = read.next {
		if read.Group == group {
			return true
		}
	}
	return false
}

// unserved are a replica's error codes that say nothing about the key.
var unserved = map[string]bool{
	"LOADING": true, "MASTERDOWN": true, "CLUSTERDOWN": true, "MOVED": true, "ASK": true, "TRYAGAIN": true,
}

// Unserved reports whether the code of a replica's error says nothing about the key, so that
// another node has to serve the read.
func Unserved(code []byte) bool { return unserved[string(code)] }

// Doubtful reports whether keys of the read may be missing from a cluster's replica only
// because their slot is migrating. Keys that have migrated are missing from the replica too,
// and only the master knows their new node.
func (r *Read) Doubtful(reply []byte) bool {
	if r.Keys > 1 {
		return lacks(reply, r.Keys)
	}
	return nothing(reply)
}

// nothing reports whether a reply may be that to a command whose key does not exist.
func nothing(reply []byte) bool {
	switch reply[0] {
	case '-', '_':
		return true
	case ':':
		n, _ := resp.Int(reply)
		return n <= 0
	case '+':
		return string(reply) == "+none\r\n"
	case '$':
		b, ok := resp.Bulk(reply)
		return !ok || len(b) == 0
	case ',', '#', '(', '=':
		return false
	}
	n, rest, _ := resp.Elements(reply)
	for range n {
		one, next, ok := resp.Split(rest)
		if !ok || !nothing(one) {
			return false
		}
		rest = next
	}
	return true
}

// lacks reports whether a reply to MGET or EXISTS shows that one of the keys does not exist.
func lacks(reply []byte, keys int32) bool {
	if n, ok := resp.Int(reply); ok {
		return n < int64(keys)
	}
	n, rest, _ := resp.Elements(reply)
	for range n {
		one, next, _ := resp.Split(rest)
		if _, there := resp.Bulk(one); !there {
			return true
		}
		rest = next
	}
	return n == 0
}
