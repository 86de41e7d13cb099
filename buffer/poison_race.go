//go:build race

package buffer

// Poison overwrites an unused buffer, so that tests see bytes that outlive theirs.
func Poison(b []byte) {
	for i := range b {
		b[i] = 0xDB
	}
}
