package plan

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/move"
)

// Other are clients that use nodes without keyway. They would not find keys that have
// moved, and could write to where keyway does not look.
type Other struct {
	Nodes       []string `json:"nodes"`
	Host        string   `json:"host"`
	Name        string   `json:"name"`
	Library     string   `json:"library"`
	User        string   `json:"user"`
	Last        []string `json:"last_commands"` // each once
	Connections int      `json:"connections"`
}

// client is a connection of someone else, as Other.
type client struct {
	sender
	last string
}

// sender is who a connection belongs to, as far as the node knows.
type sender struct{ host, name, library, user string }

// askClients asks for the node's connections.
func (n *node) askClients(ctx context.Context) error {
	_ = n.conn.ClientSetName(ctx, connName).Err() // a user without that right sees plan itself
	text, err := n.conn.ClientList(ctx).Result()
	if err != nil && !control.IsReply(err) {
		return fmt.Errorf("asking for CLIENT LIST: %w", err)
	}
	n.hidesClients = err != nil
	for line := range strings.Lines(text) {
		if instance, host := guard.KeywayIn(line); instance != "" {
			n.keyways = append(n.keyways, seen{instance, host})
		}
		f := map[string]string{}
		for field := range strings.FieldsSeq(line) {
			name, value, _ := strings.Cut(field, "=")
			f[name] = value
		}
		ours := strings.HasPrefix(f["name"], ownPrefix) || strings.HasPrefix(f["name"], move.NamePrefix) ||
			strings.HasPrefix(f["name"], "sentinel-")
		if ours || f["id"] == "" || strings.ContainsAny(f["flags"], "SM") { // replicas and the master
			continue
		}
		host, _, err := net.SplitHostPort(f["addr"])
		if err != nil {
			host = f["addr"]
		}
		library := strings.TrimSuffix(f["lib-name"]+" "+f["lib-ver"], " ")
		n.clients = append(n.clients, client{sender{host, f["name"], library, f["user"]}, f["cmd"]})
	}
	return nil
}

// questions are the last commands on connections without a name over which keyways ask about a node.
var questions = []string{
	"", "NULL", "hello", "auth", "ping", "client|setname", "client|list", "function|list", "info", "role", "select",
	"cluster|info", "cluster|shards", "cluster|slots", "cluster|nodes",
}

// others lists the clients that bypass keyway.
func (p *planner) others() {
	found := map[sender]*Other{}
	hosts := map[string]bool{} // of keyways
	for _, n := range p.nodes {
		for _, k := range n.keyways {
			hosts[k.host] = true
		}
	}
	for _, n := range p.nodes {
		for _, c := range n.clients {
			if c.last == "restore-asking" {
				continue // another node of the cluster has sent keys of a slot
			}
			if hosts[c.host] && c.name == "" && slices.Contains(questions, c.last) {
				continue // a keyway asks what the node is
			}
			o := found[c.sender]
			if o == nil {
				o = &Other{Host: c.host, Name: c.name, Library: c.library, User: c.user, Last: []string{}}
				found[c.sender] = o
			}
			o.Connections++
			if c.last != "" && c.last != "NULL" && !slices.Contains(o.Last, c.last) {
				o.Last = append(o.Last, c.last)
				slices.Sort(o.Last)
			}
			if !slices.Contains(o.Nodes, n.name) {
				o.Nodes = append(o.Nodes, n.name)
			}
		}
	}
	for _, o := range found {
		p.report.Others = append(p.report.Others, *o)
	}
	slices.SortFunc(p.report.Others, func(a, b Other) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.Library, b.Library), cmp.Compare(a.User, b.User))
	})
	for _, o := range p.report.Others {
		p.problem(checkOthers, "let them use keyway, or, if they only look, write --accept "+checkOthers,
			"%s", o.Text())
	}
}

// shownCommands is how many commands Text names.
const shownCommands = 5

// Text describes the clients in one line.
func (o Other) Text() string {
	b := fmt.Sprintf("%d connections", o.Connections)
	if o.Connections == 1 {
		b = "1 connection"
	}
	b += " from " + o.Host
	if o.Name != "" {
		b += fmt.Sprintf(" (%q)", o.Name)
	}
	if o.Library != "" {
		b += " with " + o.Library
	}
	if o.User != "" && o.User != "default" {
		b += " as user " + o.User
	}
	b += " to " + strings.Join(o.Nodes, ", ") + " bypass keyway"
	if len(o.Last) == 0 {
		return b
	}
	return b + "; last commands: " + strings.Join(o.Last[:min(len(o.Last), shownCommands)], ", ")
}
