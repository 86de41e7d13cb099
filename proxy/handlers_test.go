package proxy

import (
	"testing"

	"github.com/keyway-proxy/keyway/command"
)

func TestEveryActionHasAHandler(t *testing.T) {
	for _, c := range command.ByID {
		h := &parts.Handlers[c.Action]
		switch {
		case c.Action == command.NoAction:
		case c.Handling == command.Local && h.Answer == nil:
			t.Errorf("nothing answers %s", c.Name)
		case h.Answer == nil && h.Emulated == nil && h.Check == nil && h.Before == nil && h.Changes == nil &&
			h.End == nil:
			t.Errorf("the handler of %s does nothing", c.Name)
		}
	}
}
