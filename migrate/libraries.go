package migrate

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/keyway-proxy/keyway/move"
)

// Loaded says which libraries of functions a node has got, by name.
type Loaded struct {
	Node      string
	Libraries []string
}

// Equip loads the functions of the older layout's nodes at those nodes of the newer one that lack them, so
// that FCALL goes on there. A library that a node has stays as it is. It is an error if a node lacks one
// that is not the same on all nodes of the older layout.
func Equip(ctx context.Context, older, newer Layout) ([]Loaded, error) {
	s := newServers(0)
	defer s.close()
	from, to, err := s.openBoth(ctx, older, newer)
	if err != nil {
		return nil, err
	}
	return equip(ctx, from, to)
}

func equip(ctx context.Context, from, to *placement) (all []Loaded, err error) {
	codes, nodes := map[string]string{}, map[string]*move.Node{}
	differ := map[string]*move.Node{}
	for n := range from.masters() {
		libraries, err := n.Libraries(ctx)
		if err != nil {
			return nil, err
		}
		for name, code := range libraries {
			if was, known := codes[name]; known && was != code {
				differ[name] = n
				continue
			}
			codes[name], nodes[name] = code, n
		}
	}
	if len(codes) == 0 {
		return nil, nil
	}
	for n := range to.masters() {
		has, err := n.Libraries(ctx)
		if err != nil {
			return all, err
		}
		got := Loaded{Node: n.Name}
		for _, name := range slices.Sorted(maps.Keys(codes)) {
			if _, known := has[name]; known {
				continue
			}
			if other := differ[name]; other != nil {
				return all, fmt.Errorf("node %s lacks library %s, which is not the same on nodes %s and %s: load the "+
					"right one there, and run the command again", n.Name, name, nodes[name].Name, other.Name)
			}
			if err := n.Load(ctx, name, codes[name]); err != nil {
				return all, err
			}
			got.Libraries = append(got.Libraries, name)
		}
		if len(got.Libraries) > 0 {
			all = append(all, got)
		}
	}
	return all, nil
}
