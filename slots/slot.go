package slots

import (
	"bytes"

	"github.com/sigurn/crc16"
)

// Count is the number of hash slots.
const Count = 16384

// checksums holds the CRC of each byte, followed by none to three zero bytes.
// A CRC is linear: the one of four bytes is the XOR of four of these, so Of looks
// up four bytes at a time, none of which has to wait for the one before.
var checksums = func() (t [4][256]uint16) {
	xmodem := crc16.MakeTable(crc16.CRC16_XMODEM)
	for i := range 256 {
		b := [len(t)]byte{byte(i)}
		for zeros := range t {
			t[zeros][i] = crc16.Checksum(b[:1+zeros], xmodem)
		}
	}
	return t
}()

// Of returns the hash slot of key.
func Of(key []byte) uint16 {
	t, b, crc := &checksums, Tag(key, '{', '}'), uint16(0)
	for ; len(b) >= 4; b = b[4:] {
		crc = t[3][b[0]^byte(crc>>8)] ^ t[2][b[1]^byte(crc)] ^ t[1][b[2]] ^ t[0][b[3]]
	}
	for _, c := range b {
		crc = crc<<8 ^ t[0][c^byte(crc>>8)]
	}
	return crc % Count
}

// Tag returns the bytes of key that are hashed: those between the first opening byte and
// the first closing byte after it, or the whole key if there are none. The result shares
// memory with key.
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
