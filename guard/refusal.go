package guard

import (
	"fmt"
	"strings"

	"github.com/keyway-proxy/keyway/errtext"
)

// refusal says that clients would not find keys that are on the nodes.
type refusal struct {
	layout  string   // of the configuration
	samples []Sample // of all nodes, in the order of the configuration
	cause   string   // what most likely changed; empty if keyway cannot tell
}

// Error returns several lines: the figures of each node, the likely cause, and what to do.
func (e *refusal) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "keys lie on other nodes than layout %s says, so clients would not find them\n", e.layout)
	for _, s := range e.samples {
		fmt.Fprintf(&b, "  node %s (%s): %s\n", s.Name, s.Addr, s.figures())
	}
	cause := e.cause
	if cause == "" {
		cause = "keyway finds no single change that explains it: compare the file with the one by which the keys " +
			"were written (layout, hash, hash_tag, the nodes' names, weights and addresses, the ranges); " +
			"scripts that write keys which they do not declare, and clients that bypass keyway, " +
			"also write where no client looks"
	}
	fmt.Fprintf(&b, "Likely cause: %s.\n", cause)
	b.WriteString("What to do, one of:\n" +
		"  - go back to the configuration by which the keys were written\n" +
		"  - if keyways serve by that configuration: change the layout with keyway switch OLD.yml NEW.yml, " +
		"which clients do not notice\n" +
		"  - move the keys while no client uses them: keyway plan OLD.yml NEW.yml says which, " +
		"keyway migrate OLD.yml NEW.yml moves them\n" +
		"  - if the keys may be lost sight of, as in a cache: placement: {misplaced: allow}")
	return b.String()
}

// figures returns what a look at a node found, for people.
func (s Sample) figures() string {
	if s.Err != nil {
		return "not judged: " + s.Err.Error()
	}
	if s.Sampled == 0 {
		return "no keys"
	}
	what := fmt.Sprintf("of %d keys drawn at random from %d", s.Sampled, s.Keys)
	if s.Whole {
		what = fmt.Sprintf("of its %d keys", s.Sampled)
	}
	text := fmt.Sprintf("%s, %d (%.1f %%) belong elsewhere", what, s.Elsewhere, 100*s.Ratio())
	if s.Elsewhere > 0 {
		text += ", such as " + s.Examples[0].String()
	}
	return text
}

// String returns the key, readable and cut to 64 characters, and where it belongs.
func (e Example) String() string {
	text := errtext.Key(e.Key)
	if e.DB > 0 {
		text += fmt.Sprintf(" of database %d", e.DB)
	}
	if e.Belongs == "" {
		return text + ", which no rule places"
	}
	return text + ", which belongs to " + e.Belongs
}
