package hashring

import (
	"crypto/md5"
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"slices"
)

// Hash maps a key to a point of the continuum.
type Hash func(key []byte) uint32

// hashes holds every key hash of twemproxy 0.5 under its configuration name.
var hashes = map[string]Hash{
	"one_at_a_time": oneAtATime,
	"md5":           md5Hash,
	"crc16":         crc16,
	"crc32":         func(k []byte) uint32 { return crc32.ChecksumIEEE(k) >> 16 & 0x7fff },
	"crc32a":        crc32.ChecksumIEEE,
	"fnv1_64":       fnv1_64,
	"fnv1a_64":      fnv1a_64,
	"fnv1_32":       fnv1_32,
	"fnv1a_32":      fnv1a_32,
	"hsieh":         hsieh,
	"murmur":        murmur,
	"jenkins":       jenkins,
}

// HashNamed returns the key hash of that name.
func HashNamed(name string) (Hash, bool) {
	h, ok := hashes[name]
	return h, ok
}

// HashNames returns the names that HashNamed knows, sorted.
func HashNames() []string {
	names := make([]string, 0, len(hashes))
	for n := range hashes {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// signed returns a byte as twemproxy's hashes see it: a C char, which is signed on x86.
func signed(b byte) uint32 { return uint32(int32(int8(b))) }

func oneAtATime(key []byte) uint32 {
	v := uint32(0)
	for _, c := range key {
		v += signed(c)
		v += v << 10
		v ^= v >> 6
	}
	v += v << 3
	v ^= v >> 11
	v += v << 15
	return v
}

func md5Hash(key []byte) uint32 {
	sum := md5.Sum(key)
	return binary.LittleEndian.Uint32(sum[:])
}

// crc16 uses the XMODEM polynomial in a register of 32 bits that is never cut to 16, as
// twemproxy 0.5 does.
func crc16(key []byte) uint32 {
	crc := uint32(0)
	for _, c := range key {
		crc = crc<<8 ^ uint32(crc16Table[byte(crc>>8)^c])
	}
	return crc
}

var crc16Table = func() (t [256]uint16) {
	for i := range t {
		c := uint16(i) << 8
		for range 8 {
			if c&0x8000 != 0 {
				c = c<<1 ^ 0x1021
			} else {
				c <<= 1
			}
		}
		t[i] = c
	}
	return t
}()

const (
	fnv64Init  = 0xcbf29ce484222325
	fnv64Prime = 0x100000001b3
	fnv32Init  = 2166136261
	fnv32Prime = 16777619
)

func fnv1_64(key []byte) uint32 {
	h := uint64(fnv64Init)
	for _, c := range key {
		h *= fnv64Prime
		h ^= uint64(int64(int8(c)))
	}
	return uint32(h)
}

// fnv1a_64 runs in 32 bits with the low halves of the 64-bit constants.
func fnv1a_64(key []byte) uint32 {
	h := uint32(fnv64Init & 0xffffffff)
	for _, c := range key {
		h ^= signed(c)
		h *= fnv64Prime & 0xffffffff
	}
	return h
}

func fnv1_32(key []byte) uint32 {
	h := uint32(fnv32Init)
	for _, c := range key {
		h *= fnv32Prime
		h ^= signed(c)
	}
	return h
}

func fnv1a_32(key []byte) uint32 {
	h := uint32(fnv32Init)
	for _, c := range key {
		h ^= signed(c)
		h *= fnv32Prime
	}
	return h
}

// hsieh is Paul Hsieh's SuperFastHash.
func hsieh(key []byte) uint32 {
	if len(key) == 0 {
		return 0
	}
	h := uint32(0)
	for ; len(key) >= 4; key = key[4:] {
		h += uint32(binary.LittleEndian.Uint16(key))
		h = h<<16 ^ (uint32(binary.LittleEndian.Uint16(key[2:]))<<11 ^ h)
		h += h >> 11
	}
	switch len(key) {
	case 3:
		h += uint32(binary.LittleEndian.Uint16(key))
		h ^= h << 16
		h ^= signed(key[2]) << 18
		h += h >> 11
	case 2:
		h += uint32(binary.LittleEndian.Uint16(key))
		h ^= h << 11
		h += h >> 17
	case 1:
		h += uint32(key[0])
		h ^= h << 10
		h += h >> 1
	}
	h ^= h << 3
	h += h >> 5
	h ^= h << 4
	h += h >> 17
	h ^= h << 25
	h += h >> 6
	return h
}

// murmur is MurmurHash2 with twemproxy's seed.
func murmur(key []byte) uint32 {
	const m = 0x5bd1e995
	n := uint32(len(key))
	h := 0xdeadbeef*n ^ n
	for ; len(key) >= 4; key = key[4:] {
		k := binary.LittleEndian.Uint32(key) * m
		k ^= k >> 24
		h = h*m ^ k*m
	}
	switch len(key) {
	case 3:
		h ^= uint32(key[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(key[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(key[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}

// jenkins is Bob Jenkins's lookup3 (hashlittle) with twemproxy's seed.
func jenkins(key []byte) uint32 {
	a := 0xdeadbeef + uint32(len(key)) + 13
	b, c := a, a
	for ; len(key) > 12; key = key[12:] {
		a += binary.LittleEndian.Uint32(key)
		b += binary.LittleEndian.Uint32(key[4:])
		c += binary.LittleEndian.Uint32(key[8:])
		a, c = jenkinsMix(a, b, c, 4)
		b, a = jenkinsMix(b, c, a, 6)
		c, b = jenkinsMix(c, a, b, 8)
		a, c = jenkinsMix(a, b, c, 16)
		b, a = jenkinsMix(b, c, a, 19)
		c, b = jenkinsMix(c, a, b, 4)
	}
	if len(key) == 0 {
		return c
	}
	var last [12]byte
	copy(last[:], key)
	a += binary.LittleEndian.Uint32(last[0:])
	b += binary.LittleEndian.Uint32(last[4:])
	c += binary.LittleEndian.Uint32(last[8:])
	c = jenkinsFinal(c, b, 14)
	a = jenkinsFinal(a, c, 11)
	b = jenkinsFinal(b, a, 25)
	c = jenkinsFinal(c, b, 16)
	a = jenkinsFinal(a, c, 4)
	b = jenkinsFinal(b, a, 14)
	return jenkinsFinal(c, b, 24)
}

// jenkinsMix is one step of lookup3's mix. It returns the new a and c.
func jenkinsMix(a, b, c uint32, rotation int) (uint32, uint32) {
	return (a - c) ^ bits.RotateLeft32(c, rotation), c + b
}

// jenkinsFinal is one step of lookup3's final mix. It returns the new c.
func jenkinsFinal(c, b uint32, rotation int) uint32 {
	return (c ^ b) - bits.RotateLeft32(b, rotation)
}
