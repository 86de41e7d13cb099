package handover_test

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/proxy/handover"
)

// TestWhatIsNotUnderstoodIsRefused: a client with something that this version does not know is not
// taken over without it.
func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	t.Parallel()
	if c, err := handover.Read([]byte(`{"id": 7, "reply": "off", "reads": "readonly", "input": "Kg=="}`)); err != nil ||
		c.ID() != 7 || string(c.Input()) != "*" {
		t.Errorf("client %d with input %q: %v", c.ID(), c.Input(), err)
	}
	for form, want := range map[string]string{
		`{"id": 7, "mood": "good"}`:    "unknown field",
		`{"id": 7, "reply": "sung"}`:   "unknown state",
		`{"id": 7, "reads": "poetry"}`: "unknown state",
		`{"peer": "x"}`:                "no id",
		`{"id": 7`:                     "EOF",
	} {
		if _, err := handover.Read([]byte(form)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", form, err)
		}
	}
}
