package reshard

import (
	"context"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/mover"
	"github.com/keyway-proxy/keyway/switching"
)

// Work returns what the change moves that is in force. It is nil if there was none.
func (l *LastChange) Work(ctx context.Context) (*mover.Work, error) {
	if l.Old == nil {
		return nil, nil
	}
	return workOf(ctx, l.Epoch, l.Old, l.New)
}

// Status asks the nodes of a file for the last change of their layout, which may be a planned one. The layout
// of the file may be the old or the new one. Before the first change, it must be the one in force.
func Status(ctx context.Context, c *config.Config) (*mover.Status, error) {
	l, err := ReadLastChange(ctx, c)
	if l == nil {
		return nil, err
	} // otherwise some nodes do not answer, which the status says
	of := mover.Subject{To: layoutText(l.New)}
	switch {
	case l.Decided > 0:
		of.Home, of.From, of.To, of.Nodes = l.home, of.To, "", []*switching.Node{l.home}
	case l.Planned > 0:
		of.Home, of.From, of.To = l.home, of.To, ""
	case l.Old == nil:
		nodes, err := sideNodes(ctx, l.New)
		if err != nil {
			return nil, err
		}
		of.Home, of.Nodes = slices.MinFunc(nodes, byName), nodes
	default:
		w, err := l.Work(ctx)
		if err != nil {
			return nil, err
		}
		of.From, of.Home, of.Next, of.Nodes = layoutText(l.Old), w.Home, Home(l.New, w.To.Table), w.Nodes
		of.Older = mastersOf(l.Old, w.From.Table)
	}
	return mover.ReadStatus(ctx, of), nil
}

// layoutText names a layout, for people.
func layoutText(c *config.Config) string {
	text := c.Layout
	switch {
	case c.Slots.Cluster != "":
		text += " of cluster " + c.Slots.Cluster
	case c.Clustered():
		text += " of a cluster"
	case len(c.Nodes) > 0:
		names := make([]string, len(c.Nodes))
		for i, n := range c.Nodes {
			names[i] = n.Name
		}
		text += " of " + strings.Join(names, ", ")
	}
	return text + " (placement " + c.PlacementHash() + ")"
}
