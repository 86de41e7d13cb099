package hotkeys

import (
	"bytes"
	"fmt"
	"hash/maphash"
)

// MaxKey is how many bytes of a key are kept. Of a longer one, only the beginning is known, its length and a hash.
const MaxKey = 96

// Key is a key of a database, in bounded memory.
type Key struct {
	hash uint64
	size int
	db   uint16
	head [MaxKey]byte
}

// Set makes k a key of a database.
func (k *Key) Set(seed maphash.Seed, key []byte, db uint16) { k.set(hashOf(seed, key, db), key, db) }

// set makes k the key with that hash.
func (k *Key) set(hash uint64, key []byte, db uint16) {
	k.hash, k.size, k.db = hash, len(key), db
	copy(k.head[:], key)
}

// is reports whether k is the key with that hash.
func (k *Key) is(hash uint64, key []byte, db uint16) bool {
	return k.hash == hash && k.db == db && k.size == len(key) && bytes.Equal(k.kept(), key[:min(len(key), MaxKey)])
}

// Same reports whether two keys are the same.
func (k *Key) Same(o *Key) bool {
	return k.hash == o.hash && k.db == o.db && k.size == o.size && bytes.Equal(k.kept(), o.kept())
}

// DB returns the number of the key's database.
func (k *Key) DB() uint16 { return k.db }

func (k *Key) kept() []byte { return k.head[:min(k.size, MaxKey)] }

// Name returns the key, or its beginning and what distinguishes it from others that begin so.
func (k *Key) Name() string {
	if k.size <= MaxKey {
		return string(k.kept())
	}
	return fmt.Sprintf("%s... (%d bytes, hash %016x)", k.kept(), k.size, k.hash)
}

// hashOf returns the hash of a key. Two databases have different keys of the same name.
func hashOf(seed maphash.Seed, key []byte, db uint16) uint64 {
	return maphash.Bytes(seed, key) + uint64(db)*0x9e3779b97f4a7c15
}
