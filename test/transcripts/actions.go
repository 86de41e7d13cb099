package transcripts

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/router"
)

// action is a form of action lines.
type action struct {
	form *regexp.Regexp
	do   func(w *world, party, value string) error
}

const (
	aClient = `^(c\d+)`
	aNode   = `^([a-z]+)`
	aSocket = `^([a-z]+(?:\.\d+)?)`
)

var actions = []action{
	{regexp.MustCompile(`^()wait (\S+)$`), func(w *world, _, value string) error {
		d, err := time.ParseDuration(value)
		if err == nil {
			w.wait(d)
		}
		return err
	}},
	{regexp.MustCompile(`^()layout: (.+)$`), func(w *world, _, value string) error {
		return w.replaceTable(value, (*proxy.Worker).SetTable)
	}},
	{regexp.MustCompile(`^()other layout: (.+)$`), func(w *world, _, value string) error {
		return w.replaceTable(value, proxy.ReplaceLayout)
	}},
	{regexp.MustCompile(`^()reload: (.+)$`), func(w *world, _, value string) error {
		err := setOptions(&w.options, value)
		for _, wk := range w.workers {
			proxy.Configure(wk, w.options.Options)
		}
		return err
	}},
	{regexp.MustCompile(aClient + ` -> (.+)$`), send},
	{regexp.MustCompile(aClient + ` connects(?: to worker (\d+))?$`), connect},
	{regexp.MustCompile(aClient + ` leaves()$`), func(w *world, party, _ string) error {
		c, err := w.client(party)
		if err == nil {
			c.gone = true
			c.worker.Gone(c.session)
		}
		return err
	}},
	{regexp.MustCompile(aClient + ` sends no more()$`), func(w *world, party, _ string) error {
		c, err := w.client(party)
		if err == nil {
			c.worker.EOF(c.session)
		}
		return err
	}},
	{regexp.MustCompile(aClient + ` (stops reading|reads)$`), func(w *world, party, value string) error {
		c, err := w.client(party)
		if err == nil {
			c.stopped = value == "stops reading"
			w.flush(c)
		}
		return err
	}},
	{regexp.MustCompile(aSocket + ` -> (.+)$`), answer},
	{regexp.MustCompile(aSocket + ` closes()$`), func(w *world, party, _ string) error {
		s, err := w.socket(party)
		if err == nil {
			s.close(w, "connection reset by peer")
		}
		return err
	}},
	{regexp.MustCompile(aSocket + ` drops a reply()$`), func(w *world, party, _ string) error {
		s, err := w.socket(party)
		if err == nil && len(s.pending) == 0 {
			err = fmt.Errorf("%s owes no reply", party)
		}
		if err == nil {
			s.pending = s.pending[1:]
		}
		return err
	}},
	{regexp.MustCompile(aNode + ` (dies|returns|ignores connections)$`), change},
	{regexp.MustCompile(aClient + ` reads (\d+) bytes$`), func(w *world, party, value string) error {
		c, err := w.client(party)
		if err == nil {
			c.stopped = true
			c.mayTake, _ = strconv.Atoi(value)
			w.flush(c)
		}
		return err
	}},
	{regexp.MustCompile(`^()worker (\d+) (?:hangs|goes on)$`), func(w *world, _, value string) error {
		i, err := strconv.Atoi(value)
		if i < 1 || i > len(w.workers) || err != nil {
			return fmt.Errorf("there are %d workers", len(w.workers))
		}
		w.hangs[i-1] = !w.hangs[i-1]
		return nil
	}},
	{regexp.MustCompile(`^()keyway (has|has not) enough memory$`), func(w *world, _, value string) error {
		for _, wk := range w.workers {
			wk.RefuseLarge(value == "has not")
		}
		return nil
	}},
	{regexp.MustCompile(`^()keyway (may|may not) open more connections$`), func(w *world, _, value string) error {
		w.full = value == "may not"
		return nil
	}},
	{regexp.MustCompile(aNode + ` greets with (-.+)$`), func(w *world, party, value string) error {
		return w.set(party, func(n *node) { n.greeting = value })
	}},
	{regexp.MustCompile(aNode + ` greets as usual()$`), func(w *world, party, _ string) error {
		return w.set(party, func(n *node) { n.greeting = "" })
	}},
	{regexp.MustCompile(aNode + ` takes (\d+) bytes$`), func(w *world, party, value string) error {
		return w.set(party, func(n *node) { n.takes, _ = strconv.Atoi(value) })
	}},
	{regexp.MustCompile(aNode + ` takes everything()$`), func(w *world, party, _ string) error {
		err := w.set(party, func(n *node) { n.takes = -1 })
		for _, s := range w.sockets {
			if s.node.name == party {
				w.write(s)
			}
		}
		return err
	}},
	{regexp.MustCompile(aNode + ` lags (\d+) bytes$`), func(w *world, party, value string) error {
		return w.set(party, func(n *node) { n.lag, _ = strconv.Atoi(value) })
	}},
	{regexp.MustCompile(aSocket + ` answers each with (.+)$`), answerEach},
	{regexp.MustCompile(aSocket + ` answers nothing()$`), func(w *world, party, _ string) error {
		if !strings.Contains(party, ".") {
			return w.set(party, func(n *node) { n.each = nil })
		}
		s, err := w.socket(party)
		if err == nil {
			s.each = nil
		}
		return err
	}},
}

// replaceTable gives every worker the table of a layout.
func (w *world) replaceTable(line string, replace func(*proxy.Worker, *router.Table)) error {
	for _, wk := range w.workers {
		table, err := layout(line)
		if err != nil {
			return err
		}
		w.know(line)
		replace(wk, table)
	}
	return nil
}

// do performs one action, and everything that keyway does then.
func (w *world) do(line string) error {
	w.turn()
	defer w.settle()
	for _, one := range together(line) {
		if err := w.doOne(one); err != nil {
			return err
		}
	}
	return nil
}

// together splits a line of actions that happen in one turn: "a closes & b closes".
func together(line string) []string {
	if strings.Contains(line, " -> ") {
		return []string{line}
	}
	return strings.Split(line, " & ")
}

func (w *world) doOne(line string) error {
	for _, a := range actions {
		if m := a.form.FindStringSubmatch(line); m != nil {
			return a.do(w, m[1], m[2])
		}
	}
	return fmt.Errorf("no action has this form; see doc.go")
}

func (w *world) client(name string) (*client, error) {
	for _, c := range w.clients {
		if c.name == name && !c.gone {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%s is not connected", name)
}

func (w *world) socket(name string) (*socket, error) {
	for _, s := range w.sockets {
		if s.name == name && s.open {
			return s, nil
		}
	}
	return nil, fmt.Errorf("keyway has no connection that is called %s", name)
}

func (w *world) set(name string, change func(*node)) error {
	n := w.nodes[name]
	if n == nil {
		return fmt.Errorf("no layout has named %s", name)
	}
	change(n)
	return nil
}

func connect(w *world, name, worker string) error {
	i := 1
	if worker != "" {
		i, _ = strconv.Atoi(worker)
	}
	if i < 1 || i > len(w.workers) {
		return fmt.Errorf("there are %d workers", len(w.workers))
	}
	c := &client{name: name, worker: w.workers[i-1]}
	c.session = c.worker.Open(c, name+":1", "keyway:1")
	w.clients = append(w.clients, c)
	return nil
}

func send(w *world, name, line string) error {
	b, err := commands(line)
	if err != nil {
		return err
	}
	for _, c := range w.clients {
		if c.name == name {
			if c.gone {
				return fmt.Errorf("%s has left", name)
			}
			c.in = append(c.in, b...)
			return nil
		}
	}
	if err := connect(w, name, ""); err != nil {
		return err
	}
	return send(w, name, line)
}

func answer(w *world, name, line string) error {
	all, err := replies(line)
	if err != nil {
		return err
	}
	for _, b := range all {
		s, err := w.socket(name)
		if err != nil {
			return err
		}
		s.reply(b, w.now)
	}
	return nil
}

func answerEach(w *world, name, line string) error {
	all, err := replies(line)
	if err != nil {
		return err
	}
	only := (*socket)(nil)
	if strings.Contains(name, ".") {
		if only, err = w.socket(name); err != nil {
			return err
		}
		only.each = all[0]
	} else if err := w.set(name, func(n *node) { n.each = all[0] }); err != nil {
		return err
	}
	for _, s := range w.sockets {
		for i := range s.pending {
			if s.pending[i].auto == nil && (s == only || only == nil && s.node == w.nodes[name]) {
				s.pending[i].auto = all[0]
			}
		}
	}
	return nil
}

func change(w *world, name, to string) error {
	return w.set(name, func(n *node) {
		n.refuses, n.ignores = to == "dies", to == "ignores connections"
		for _, s := range slices.Clone(w.sockets) {
			if to == "dies" && s.node == n && s.open {
				s.close(w, "connection reset by peer")
			}
		}
		if to == "returns" {
			for _, c := range n.ignored {
				w.accept(n, c)
			}
			n.ignored = nil
		}
	})
}

// close ends a connection from the node's side.
func (s *socket) close(w *world, reason string) {
	s.open = false
	s.conn.Fail(w.now, reason)
}
