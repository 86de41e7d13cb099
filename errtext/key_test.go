package errtext

import (
	"strings"
	"testing"
)

func TestKey(t *testing.T) {
	for key, want := range map[string]string{
		"":                              `""`,
		"user:1":                        `"user:1"`,
		"a\nb\x00\xff":                  `"a\nb\x00\xff"`,
		strings.Repeat("k", 64):         `"` + strings.Repeat("k", 64) + `"`,
		strings.Repeat("k", 65):         `"` + strings.Repeat("k", 64) + `"...`,
		strings.Repeat("k", 63) + "ééé": `"` + strings.Repeat("k", 63) + `"...`,
	} {
		if got := Key(key); got != want {
			t.Errorf("%q: %s, expected %s", key, got, want)
		}
	}
}
