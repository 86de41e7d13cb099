package reshard

import (
	"testing"

	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/switching"
)

// TestWishesAgree: a change begins by itself only if all keyways serve alike, take part in changes, and
// their files have the same other layout.
func TestWishesAgree(t *testing.T) {
	agreeing := switching.Member{Instance: "a", Placement: "old", State: "idle", Wish: "new"}
	for name, other := range map[string]switching.Member{
		"whose file has the layout in force": {Instance: "b", Placement: "old", State: "idle"},
		"with a third layout in its file":    {Instance: "b", Placement: "old", State: "idle", Wish: "third"},
		"that serves by another layout":      {Instance: "b", Placement: "third", State: "idle", Wish: "new"},
		"of a version that takes no part":    {Instance: "b", Placement: "old"},
	} {
		if agree([]switching.Member{agreeing, other}, "old", "new") {
			t.Errorf("a keyway %s does not matter", name)
		}
	}
	if !agree([]switching.Member{agreeing, agreeing}, "old", "new") || agree(nil, "old", "new") {
		t.Error("keyways that agree do not, or nobody does")
	}
}

// TestTakenBack: a change that was cancelled or taken back is known by its plan.
func TestTakenBack(t *testing.T) {
	plan := func(from, to, options string) *register.Plan {
		return &register.Plan{
			Record:  register.Record{Old: register.Layout{Hash: from}, New: register.Layout{Hash: to}},
			Options: []byte(options),
		}
	}
	for _, of := range []struct {
		last register.Change
		want bool
	}{
		{register.Change{}, false},
		{register.Change{Entered: &plan("new", "old", "").Record}, true}, // its plan is on another home
		{register.Change{Entered: &plan("third", "old", "").Record}, false},
		{register.Change{Plan: plan("old", "new", ""), Decision: register.Cancelled}, true},
		{register.Change{Plan: plan("old", "third", ""), Decision: register.Cancelled}, false},
		{register.Change{Plan: plan("new", "old", `{"takes_back":true}`), Decision: register.Go}, true},
		{register.Change{Plan: plan("new", "old", ""), Decision: register.Go}, false}, // an ordinary change, before
		{register.Change{Plan: plan("third", "old", `{"takes_back":true}`), Decision: register.Go}, false},
	} {
		if got := wasTakenBack(&of.last, "new"); got != of.want {
			t.Errorf("%+v: %v", of.last, got)
		}
	}
}
