package page

import (
	"fmt"

	"github.com/keyway-proxy/keyway/router"
)

// Where is the answer to the question where a key lives.
type Where struct {
	Typed      string // in the box
	Key        string
	Tag        string // the part that decides; empty: the whole key
	By         string // the slot, the hash or the rule
	Node, Addr string // empty: no node has it
	From       string // the node where it still may be, while the layout changes
}

// maxTyped is how many bytes of a key stay in the box.
const maxTyped = 4096

// whereIs says where a key lives.
func whereIs(t *router.Table, asked string) *Where {
	key := typed(asked)
	e := t.ExplainKey([]byte(key))
	w := &Where{Typed: asked, Key: shown(key), Tag: shown(e.Tag), Node: shown(e.Node), Addr: shown(e.Addr),
		From: shown(e.From)}
	if len(asked) > maxTyped {
		w.Typed = ""
	}
	switch {
	case e.Slot != nil:
		w.By = fmt.Sprintf("slot %s of 16,384", grouped(int64(*e.Slot)))
	case e.Hash != nil:
		w.By = fmt.Sprintf("hash %s", grouped(int64(*e.Hash)))
	case e.Rule == "default":
		w.By = "no rule matches it, and this node has all such keys"
	case e.Node == "":
		w.By = "no rule matches it"
	default:
		w.By = "the rule for keys " + ruleNamed(t, e.Rule)
	}
	return w
}

// ruleNamed returns the words for a rule, out of its written form.
func ruleNamed(t *router.Table, written string) string {
	rulers, _ := t.Rulers()
	for _, ruler := range rulers {
		for _, r := range ruler.Rules {
			if r.String() == written {
				return ruleOf(r)
			}
		}
	}
	return shown(written)
}
