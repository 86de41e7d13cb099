package proxy

import (
	"testing"

	"github.com/keyway-proxy/keyway/command"
)

func TestEveryActionHasAHandler(t *testing.T) {
	for _, c := range command.ByID {
		h := &handlers[c.Action]
		switch {
		case c.Action == command.NoAction:
		case c.Handling == command.Local && h.answer == nil:
			t.Errorf("nothing answers %s", c.Name)
		case h.answer == nil && h.emulated == nil && h.check == nil && h.before == nil && h.changes == nil &&
			h.end == nil:
			t.Errorf("the handler of %s does nothing", c.Name)
		}
	}
}
