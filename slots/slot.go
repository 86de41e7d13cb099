package slots

import (
	"bytes"

	"github.com/sigurn/crc16"
)

// Count is the number of hash slots.
const Count = 16384

var xmodem = crc16.MakeTable(crc16.CRC16_XMODEM)

// Of returns the hash slot of key.
func Of(key []byte) uint16 {
	return crc16.Checksum(Tag(key, '{', '}'), xmodem) % Count
}

// Tag returns the part of key that is hashed: what stands between the first
// opening byte and the first closing byte after it, if that is not empty,
// otherwise the whole key. The result is part of key.
func Tag(key []byte, opening, closing byte) []byte {
	i := bytes.IndexByte(key, opening)
	if i < 0 {
		return key
	}
	n := bytes.IndexByte(key[i+1:], closing)
	if n <= 0 {
		return key
	}
	return key[i+1 : i+1+n]
}
