package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Keyway is a running keyway that was asked.
type Keyway struct {
	Instance  string `json:"instance"`
	Admin     string `json:"admin"` // the address at which it was asked
	Version   string `json:"version"`
	Placement string `json:"placement"` // hash of where it looks for keys
}

// Asked is what running keyways have said.
type Asked struct {
	Keyways []Keyway // the old layout is that of the first one
	Silent  []Silent
	Traffic *Traffic // nil: they have not tried the new layout
	Watch   bool     // they are about to, so it matters which of them were asked
}

// Silent is a keyway that was asked and has not answered.
type Silent struct {
	Admin  string
	Reason string
}

// asked reports what the keyways that were asked have said about themselves.
func (p *planner) asked() {
	if p.o.Asked == nil {
		return
	}
	p.report.Keyways = append(p.report.Keyways, p.o.Asked.Keyways...)
	for _, k := range p.report.Keyways {
		first := p.report.Keyways[0]
		if k.Placement != first.Placement {
			p.problem("placement", "give both the same configuration first",
				"keyway %s (%s) looks for keys by another placement (%s) than %s (%s)",
				k.Instance, k.Admin, k.Placement, first.Instance, first.Placement)
		}
		if k.Version != first.Version {
			p.note("keyway %s runs version %s, and %s runs %s", k.Instance, k.Version, first.Instance, first.Version)
		}
	}
	p.traffic()
	for _, s := range p.o.Asked.Silent {
		p.problem(CheckKeyways, "start it, or leave its address out", "%s", s.Reason)
	}
}

// seen is a keyway that is connected to a node.
type seen struct{ instance, host string }

// unasked reports the keyways that are connected to nodes and were not asked.
func (p *planner) unasked() {
	if p.o.Asked == nil {
		return
	}
	var more []seen
	for _, n := range p.nodes {
		for _, s := range n.keyways {
			asked := func(k Keyway) bool { return k.Instance == s.instance }
			if !slices.ContainsFunc(p.report.Keyways, asked) && !slices.Contains(more, s) {
				more = append(more, s)
			}
		}
	}
	if len(more) == 0 {
		return
	}
	slices.SortFunc(more, func(a, b seen) int {
		return cmp.Or(cmp.Compare(a.instance, b.instance), cmp.Compare(a.host, b.host))
	})
	texts := make([]string, len(more))
	for i, s := range more {
		texts[i] = s.instance + " at " + s.host
	}
	text, remedy := "1 more keyway serves these nodes: ", "name its admin address with --admin"
	if len(more) > 1 {
		text = fmt.Sprintf("%d more keyways serve these nodes: ", len(more))
		remedy = "name their admin addresses with --admin"
	}
	text += strings.Join(texts, ", ")
	if p.o.Asked.Traffic == nil && !p.o.Asked.Watch {
		p.note("%s; to count what their clients do, too, %s", text, remedy) // keyway switch asks all of them itself
		return
	}
	p.problem(CheckKeyways, remedy, "%s", text)
}
