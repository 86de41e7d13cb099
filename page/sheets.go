package page

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/hotkeys"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/slowlog"
)

// nodesSheet lists the nodes: those that cannot be reached first, then the slow ones.
func nodesSheet(s *overview.State) *Sheet {
	sheet := &Sheet{ID: "nodes", Title: "Nodes", Empty: "No node is known yet.", Columns: []Column{
		{Name: "Node"}, {Name: "State"}, {Name: "Keys", Number: true, Help: "share of all places that keys can have"},
		{Name: "Commands/s", Number: true}, {Name: "p50", Number: true, Help: "half of its replies take no longer"},
		{Name: "p99", Number: true, Help: "99 of 100 of its replies take no longer"},
		{Name: "In flight", Number: true, Help: "requests that the node has not answered"},
		{Name: "Errors/s", Number: true, Help: "its error replies, and commands that keyway failed because of it"},
		{Name: "Timeouts/s", Number: true, Help: "requests that it did not answer in time"},
		{Name: "Lag", Number: true, Help: "how far a replica is behind its master, at most"},
		{Name: "Memory", Number: true}, {Name: "Version"},
	}}
	nodes := slices.Clone(s.Nodes)
	slices.SortStableFunc(nodes, func(a, b overview.Node) int { return cmp.Compare(urgency(&a), urgency(&b)) })
	for i := range nodes {
		n := &nodes[i]
		role := n.Role
		if n.Master != "" {
			role = "replica of " + n.Master
		}
		name := Cell{Text: shown(n.Name), Sub: shown(n.Addr) + ", " + shown(role), Head: true}
		if n.Name == n.Addr {
			name.Sub = shown(role)
		}
		if n.Zone != "" {
			name.Sub += ", zone " + shown(n.Zone)
		}
		lag, value := "–", -1.0
		if n.Lag != nil {
			lag, value = latency(*n.Lag), *n.Lag
		}
		keys := known(percent(n.Share), n.Share)
		keys.Bar = int(n.Share*100 + 0.5)
		sheet.Rows = append(sheet.Rows, Row{Class: nodeClass(n), Cells: []Cell{
			name, stateCell(n, s.Time), keys, quiet(number(n.Commands), n.Commands),
			figure(latency(n.P50), n.P50), figure(latency(n.P99), n.P99),
			quiet(number(float64(n.InFlight)), float64(n.InFlight)), quiet(number(n.Errors), n.Errors),
			quiet(number(n.Timeouts), n.Timeouts), figure(lag, value),
			known(size(float64(n.Memory)), float64(n.Memory)), text(cmp.Or(n.Version, "–")),
		}})
	}
	return sheet
}

// known is a figure that is not known while it is 0.
func known(s string, value float64) Cell {
	if value == 0 {
		return figure("–", 0)
	}
	return figure(s, value)
}

// urgency sorts nodes: the lower, the sooner somebody should look.
func urgency(n *overview.Node) int {
	switch nodeClass(n) {
	case "bad":
		return 0
	case "warn":
		return 1
	}
	if n.Role == overview.Replica {
		return 3
	}
	return 2
}

// nodeClass returns how a node stands out.
func nodeClass(n *overview.Node) string {
	switch {
	case n.State != overview.Ready && n.State != overview.Unused:
		return "bad"
	case n.Slow:
		return "warn"
	}
	return ""
}

// stateCell says how a node is, why, and since when.
func stateCell(n *overview.Node, now time.Time) Cell {
	c := Cell{Badge: shown(n.State), Class: cmp.Or(nodeClass(n), "good"), Value: fmt.Sprint(urgency(n), n.State)}
	var words []string
	if n.State != overview.Ready && n.Reason != "" {
		words = append(words, sentence(n.Reason))
	}
	if n.Step != "" {
		words = append(words, "trying again ("+shown(n.Step)+")")
	}
	if n.Slow && c.Class == "warn" {
		c.Badge = "slow"
		if n.SlowReason != "" {
			words = append(words, sentence(n.SlowReason))
		}
	}
	if !n.Since.IsZero() && c.Class != "warn" {
		words = append(words, "for "+span(now.Sub(n.Since)))
	}
	c.Sub = strings.Join(words, ", ")
	return c
}

// commandsSheet lists the commands of the last minute.
func commandsSheet(s *overview.State) *Sheet {
	sheet := &Sheet{ID: "commands", Title: "Commands", Note: "used in the last minute",
		Empty: "No commands in the last minute.",
		Columns: []Column{{Name: "Command"}, {Name: "Calls/s", Number: true},
			{Name: "p50", Number: true, Help: "half of its replies take no longer"},
			{Name: "p99", Number: true, Help: "99 of 100 of its replies take no longer"},
			{Name: "Errors/s", Number: true}, {Name: "Calls in all", Number: true},
			{Name: "Errors in all", Number: true},
			{Name: "Last client", Help: "of commands that go to all nodes, such as KEYS"}}}
	for _, c := range s.Commands[:sheet.bound(len(s.Commands), 50)] {
		row := Row{Cells: []Cell{{Text: shown(c.Name), Head: true, Code: true}, quiet(number(c.Calls), c.Calls),
			figure(latency(c.P50), c.P50), figure(latency(c.P99), c.P99), quiet(number(c.Errors), c.Errors),
			figure(number(float64(c.Total)), float64(c.Total)), quiet(number(float64(c.Failed)), float64(c.Failed)),
			clientCell(hotkeys.Client{Addr: c.Client, Name: c.ClientName})}}
		sheet.Rows = append(sheet.Rows, row)
	}
	return sheet
}

// usersSheet lists what the clients of each user do.
func usersSheet(s *overview.State) *Sheet {
	sheet := &Sheet{ID: "users", Title: "Users", Note: "what their clients do, as in KEYWAY USERS", All: "KEYWAY USERS",
		Empty: "No client has connected.",
		Columns: []Column{{Name: "User"}, {Name: "Clients", Number: true},
			{Name: "Waiting", Number: true, Help: "clients that wait because of the user's limits"},
			{Name: "Commands/s", Number: true},
			{Name: "p50", Number: true, Help: "half of the replies take no longer"},
			{Name: "p99", Number: true, Help: "99 of 100 of the replies take no longer"},
			{Name: "Errors/s", Number: true}, {Name: "Commands in all", Number: true},
			{Name: "Errors in all", Number: true}}}
	for _, u := range s.Users[:sheet.bound(len(s.Users), maxRows)] {
		name := text(u.Name)
		name.Head = true
		sheet.Rows = append(sheet.Rows, Row{Cells: []Cell{name,
			figure(number(float64(u.Clients)), float64(u.Clients)),
			quiet(number(float64(u.Waiting)), float64(u.Waiting)),
			quiet(number(u.Commands), u.Commands), figure(latency(u.P50), u.P50), figure(latency(u.P99), u.P99),
			quiet(number(u.Errors), u.Errors), figure(number(float64(u.Total)), float64(u.Total)),
			quiet(number(float64(u.Failed)), float64(u.Failed))}})
	}
	return sheet
}

// bound returns how many of count rows are shown, at most most, and notes how many are left out.
func (s *Sheet) bound(count, most int) int {
	s.More = max(0, count-most)
	return min(count, most)
}

// keywaysSheet lists the keyways on the same nodes.
func keywaysSheet(s *overview.State) *Sheet {
	sheet := &Sheet{ID: "keyways", Title: "Keyways", Note: "connected to the same nodes",
		Empty: "This keyway has seen no other at its nodes.", Columns: []Column{{Name: "Instance"}, {Name: "From"},
			{Name: "Version"}, {Name: "Layout"}}}
	for _, k := range s.Keyways[:sheet.bound(len(s.Keyways), 100)] {
		name, layout := text(k.Instance), Cell{Badge: "the same", Class: "good"}
		if name.Head = true; k.Self {
			name.Sub = "this one"
		}
		row := Row{}
		if !k.Agrees {
			row.Class, layout = "bad", Cell{Badge: "another", Class: "bad"}
		}
		row.Cells = []Cell{name, text(cmp.Or(k.Host, "–")), text(cmp.Or(k.Version, "–")), layout}
		sheet.Rows = append(sheet.Rows, row)
	}
	return sheet
}

// hotSheet lists keys that many commands use.
func hotSheet(keys []hotkeys.Row) *Sheet {
	sheet := &Sheet{ID: "hot", Title: "Hot keys", Note: "by their share of all commands",
		Empty: "No key stands out.", All: "keyway hotkeys --admin ADDRESS --count 1000",
		Columns: []Column{{Name: "Key"}, {Name: "Share", Number: true},
			{Name: "Reads/s", Number: true}, {Name: "Writes/s", Number: true}, {Name: "Bytes/s", Number: true},
			{Name: "Node"}, {Name: "Most by"}}}
	for _, k := range keys {
		key, share := code(k.Key), figure(percent(k.Share), k.Share)
		key.Head, share.Bar = true, int(k.Share*100+0.5)
		sheet.Rows = append(sheet.Rows, Row{Cells: []Cell{key, share, quiet(number(k.Reads), k.Reads),
			quiet(number(k.Writes), k.Writes), figure(size(k.Bytes), k.Bytes), text(k.Node), clientCell(k.Client)}})
	}
	return sheet
}

// bigSheet lists keys with large values.
func bigSheet(keys []bigkeys.Row, now time.Time) *Sheet {
	sheet := &Sheet{ID: "big", Title: "Big keys", Note: "seen on their way", Empty: "No large value has passed.",
		All: "keyway bigkeys --admin ADDRESS --count 1000",
		Columns: []Column{{Name: "Key"}, {Name: "Size", Number: true}, {Name: "What"}, {Name: "Command"},
			{Name: "Client"}, {Name: "Seen"}}}
	for _, k := range keys {
		key := code(k.Key)
		key.Head = true
		sheet.Rows = append(sheet.Rows, Row{Cells: []Cell{key, figure(size(float64(k.Bytes)), float64(k.Bytes)),
			text(string(k.Kind)), code(k.Command), clientCell(k.Client), moment(k.Time, now)}})
	}
	return sheet
}

// clientCell names a client.
func clientCell(c hotkeys.Client) Cell {
	cell := text(c.Addr)
	cell.Sub = shown(c.Name)
	return cell
}

// moment is a cell of a time of the day.
func moment(at, now time.Time) Cell {
	return Cell{Text: clock(at, now), Value: at.UTC().Format("20060102150405.000000")}
}

// slowSheet lists slow commands.
func slowSheet(all []slowlog.Row, now time.Time) *Sheet {
	sheet := &Sheet{ID: "slow", Title: "Slow commands", Note: "as in SLOWLOG GET", All: "SLOWLOG GET 1000",
		Empty: "No command was slower than slowlog-log-slower-than.", Columns: []Column{{Name: "Command"},
			{Name: "Took", Number: true}, {Name: "In keyway", Number: true, Help: "until it was sent to the node"},
			{Name: "Node"}, {Name: "Client"}, {Name: "At"}}}
	for _, c := range all {
		command := code(strings.Join(c.Args, " "))
		command.Head = true
		sheet.Rows = append(sheet.Rows, Row{Cells: []Cell{command, took(c.Duration, time.Microsecond),
			took(c.Queue, time.Microsecond), text(cmp.Or(c.Node, "–")),
			clientCell(hotkeys.Client{Addr: c.Client, Name: c.Name}), moment(c.Time, now)}})
	}
	return sheet
}

func took(n int64, unit time.Duration) Cell {
	seconds := (time.Duration(n) * unit).Seconds()
	return figure(latency(seconds), seconds)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// clientsSheet lists clients. acts says whether the page can close them.
func clientsSheet(all []clients.Row, connected int, acts bool) *Sheet {
	sheet := &Sheet{ID: "clients", Title: "Clients", Empty: "No client is connected.",
		More: max(0, connected-len(all)), All: "keyway clients --admin ADDRESS --count 1000", Columns: []Column{
			{Name: "Client", By: "addr"}, {Name: "User", By: "user"}, {Name: "Last command", By: "last_command"},
			{Name: "Commands", Number: true, By: "commands"}, {Name: "Idle", Number: true, By: "idle"},
			{Name: "Age", Number: true, By: "age"}, {Name: "In", Number: true, By: "bytes_in"},
			{Name: "Out", Number: true, By: "bytes_out"}, {Name: "Memory", Number: true, By: "memory"},
			{Name: "Database", Number: true, By: "db"}, {Name: "Flags", By: "flags"}}}
	if acts {
		sheet.Columns = append(sheet.Columns, Column{Name: "Close", Acts: true})
	}
	for _, c := range all {
		id := Cell{Text: shown(c.Addr), Sub: fmt.Sprintf("id %d", c.ID), Head: true}
		for _, of := range []string{c.Name, c.Lib} {
			if of != "" {
				id.Sub += ", " + shown(of)
			}
		}
		flags := c.Flags
		if c.Blocked {
			flags += " blocked"
		}
		if c.Subscriptions > 0 {
			flags += ", " + counted(c.Subscriptions, "subscription")
		}
		sheet.Rows = append(sheet.Rows, Row{Cells: []Cell{id, text(c.User), code(c.LastCommand),
			figure(number(float64(c.Commands)), float64(c.Commands)), figure(span(seconds(c.Idle)), c.Idle),
			figure(span(seconds(c.Age)), c.Age), figure(size(float64(c.BytesIn)), float64(c.BytesIn)),
			figure(size(float64(c.BytesOut)), float64(c.BytesOut)), figure(size(float64(c.Memory)), float64(c.Memory)),
			figure(fmt.Sprint(c.DB), float64(c.DB)), text(flags)}})
		if row := &sheet.Rows[len(sheet.Rows)-1]; acts {
			row.Cells = append(row.Cells, Cell{Order: kill(&c)})
		}
	}
	return sheet
}

// subscriptionsSheet lists what clients listen to.
func subscriptionsSheet(all []clients.Topic) *Sheet {
	sheet := &Sheet{ID: "subscriptions", Title: "Subscriptions", Empty: "No client has subscribed to anything.",
		Columns: []Column{{Name: "Name"}, {Name: "Kind"}, {Name: "Clients", Number: true}}}
	for _, s := range all {
		name := code(s.Name)
		name.Head = true
		sheet.Rows = append(sheet.Rows,
			Row{Cells: []Cell{name, text(s.Kind), figure(number(float64(s.Clients)), float64(s.Clients))}})
	}
	return sheet
}

// locksSheet lists locks that clients hold or wait for.
func locksSheet(all []locks.Row) *Sheet {
	sheet := &Sheet{ID: "locks", Title: "Locks", Note: "held or waited for, as in KEYWAY LOCKS",
		Empty: "No lock is held.", Columns: []Column{{Name: "Lock"}, {Name: "State"}, {Name: "Held for", Number: true},
			{Name: "Lease left", Number: true}, {Name: "Waiting", Number: true}, {Name: "Holder"}, {Name: "Library"},
			{Name: "Node"}}}
	for _, l := range all {
		key, state, row := code(l.Key), Cell{Badge: shown(l.State), Class: "good"}, Row{}
		if key.Head = true; len(l.Alarms) > 0 {
			state.Class, row.Class, state.Sub = "warn", "warn", shown(strings.Join(l.Alarms, ", "))
		}
		lease := figure("none", -1)
		if l.Lease >= 0 {
			lease = took(l.Lease, time.Millisecond)
		}
		waiting := float64(l.Pollers + l.Waiters + l.Blocked)
		holder := clientCell(hotkeys.Client{Addr: l.Addr, Name: l.Name})
		row.Cells = []Cell{key, state, took(l.Held, time.Millisecond), lease,
			quiet(number(waiting), waiting), holder, text(cmp.Or(l.Library, l.Kind)), text(l.Node)}
		sheet.Rows = append(sheet.Rows, row)
	}
	return sheet
}
