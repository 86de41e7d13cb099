package slots

import (
	"bytes"

	"github.com/sigurn/crc16"
)

// Count is the number of hash slots.
const Count = 16384

// checksums holds the CRC of each byte, followed by none to seven zero bytes.
// A CRC is linear: the one of eight bytes is the XOR of eight of these, so OfTag
// looks up eight bytes at a time, none of which has to wait for the one before.
var checksums = func() (t [8][256]uint16) {
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
func Of(key []byte) uint16 { return OfTag(Tag(key, '{', '}')) }

// OfTag returns the hash slot of the keys whose Tag, between braces, is b.
func OfTag(b []byte) uint16 {
	t, crc := &checksums, uint16(0)
	// What depends on the bytes before comes last, so that the rest need not wait for it.
	for ; len(b) >= 8; b = b[8:] {
		crc = t[0][b[7]] ^ t[1][b[6]] ^ t[2][b[5]] ^ t[3][b[4]] ^ t[4][b[3]] ^ t[5][b[2]] ^
			t[6][b[1]^byte(crc)] ^ t[7][b[0]^byte(crc>>8)]
	}
	if len(b) >= 4 {
		crc = t[0][b[3]] ^ t[1][b[2]] ^ t[2][b[1]^byte(crc)] ^ t[3][b[0]^byte(crc>>8)]
		b = b[4:]
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
