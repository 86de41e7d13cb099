package overview

import (
	"fmt"
	"strings"
)

// Group is one problem, or several of one kind that one sentence can say.
type Group struct {
	Problem
	Each []Problem // nil: it is one problem
}

const (
	// fewAlike is how many problems of one kind are listed one by one.
	fewAlike = 3
	// named is how many nodes the sentence of a group names.
	named = 8
)

// Groups returns problems in their order, but many of one kind as one. A machine that dies takes all its nodes away,
// and what else is wrong must stay in sight.
func Groups(all []Problem) (groups []Group) {
	type alike struct{ kind, severity, help string }
	count, at := map[alike]int{}, map[alike]int{}
	of := func(p *Problem) alike { return alike{p.Kind, p.Severity, p.Help} }
	for i := range all {
		count[of(&all[i])]++
	}
	for i := range all {
		p := &all[i]
		if p.Kind == "" || count[of(p)] <= fewAlike {
			groups = append(groups, Group{Problem: *p})
			continue
		}
		k, ok := at[of(p)]
		if !ok {
			k = len(groups)
			at[of(p)] = k
			groups = append(groups, Group{Problem: Problem{Kind: p.Kind, Severity: p.Severity, Help: p.Help}})
		}
		groups[k].Each = append(groups[k].Each, *p)
	}
	for i := range groups {
		if g := &groups[i]; len(g.Each) > 0 {
			g.Text = fmt.Sprintf("%d nodes %s: %s", len(g.Each), g.Kind, namesOf(g.Each))
		}
	}
	return groups
}

// namesOf names the first nodes of a group.
func namesOf(all []Problem) string {
	var names []string
	for _, p := range all[:min(len(all), named)] {
		names = append(names, p.Node)
	}
	text := strings.Join(names, ", ")
	if more := len(all) - named; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// ID names the group among all.
func (g *Group) ID() string { return g.Severity + "-" + strings.ReplaceAll(g.Kind, " ", "-") }
