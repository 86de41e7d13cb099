//go:build race

package buffer

// Poison overwrites an unused buffer, so that tests fail if its bytes are still in use.
func Poison(b []byte) {
	for i := range b {
		b[i] = 0xDB
	}
}
