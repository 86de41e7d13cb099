package page

import (
	"fmt"
	"strings"

	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/overview"
)

// Orders is what a page knows about what it can have done. It asks for that by requests to the admin address, which
// decides.
type Orders struct {
	HasToken func() bool   // the configuration has a token, which all orders need then
	HasUsers func() bool   // there are users who may act by name and password
	Level    func() string // of the log
}

// Order is something that can be done, in the words of the command that does it, too.
type Order struct {
	Name    string // on the button; empty: the page cannot do it
	Label   string // of the button, if its name alone does not say what it is about
	Path    string // of the request, with its parameters
	Command string // {} stands for the value of Field
	Does    string
	IsOpen  bool // it needs no token if the configuration has none
	Field   *Field
}

// Field is a parameter that an operator chooses.
type Field struct {
	Name, Label, Value string
	Unit               string   // of the value, in the request
	Choices            []string // empty: any text
}

// Options are the choices, without spaces.
func (f *Field) Options() string { return strings.Join(f.Choices, " ") }

// panel is the part of the page with what concerns the process and all clients.
type panel struct {
	HasToken, HasUsers bool
	Orders             []Order
}

// Operate returns what the page can have done at any time, nil if that is nothing.
func (v *view) Operate() *panel {
	of := v.orders
	if of == nil {
		return nil
	}
	return &panel{HasToken: of.HasToken(), HasUsers: of.HasUsers(), Orders: []Order{
		{Name: "Reload", Path: "reload", Command: "keyway reload -c FILE", IsOpen: true,
			Does: "read the configuration again, and apply all changes or none"},
		{Name: "Set level", Path: "log-level", Command: "KEYWAY LOG {}",
			Does: "set the level of the log, which is " + shown(of.Level()) + "; file: as the file says",
			Field: &Field{Name: "level", Label: "Level", Value: "debug",
				Choices: []string{"debug", "info", "warn", "error", "file"}}},
		{Name: "Pause clients", Path: "clients/pause?mode=write", Command: "CLIENT PAUSE {} WRITE",
			Does: "make commands that may write wait for so long",
			Field: &Field{Name: "for", Label: "Milliseconds", Value: "10000", Unit: "ms",
				Choices: []string{"1000", "10000", "30000", "60000", "300000"}}},
		{Name: "Go on", Path: "clients/unpause", Command: "CLIENT UNPAUSE", Does: "end all such waiting"},
	}}
}

// Proof says what an order needs: token, user, either or none.
func (p *panel) Proof() string {
	switch {
	case p.HasToken && p.HasUsers:
		return "either"
	case p.HasToken:
		return "token"
	case p.HasUsers:
		return "user"
	}
	return "none"
}

// kill is the order that closes a client.
func kill(c *clients.Row) *Order {
	who := shown(c.Addr)
	if c.Name != "" {
		who += ", " + shown(c.Name)
	}
	return &Order{Name: "Close", Label: "Close the client " + who, Path: fmt.Sprintf("clients/kill?id=%d", c.ID),
		Command: fmt.Sprintf("CLIENT KILL ID %d", c.ID), Does: "close the connection of " + who}
}

// steering returns what steers a change of the layout.
func steering(s *overview.Switch, acts bool) (all []Order) {
	if s.IsPlanned {
		all = []Order{{Name: "Cancel", Path: "switch/cancel", Command: "keyway cancel -c FILE",
			Does: "cancel it before it begins"}}
	} else {
		all = []Order{
			{Name: "Pause", Path: "switch/pause", Command: "keyway pause -c FILE",
				Does: "stop moving keys; those that clients use still move"},
			{Name: "Set rate", Path: "switch/rate", Command: "keyway rate {} -c FILE",
				Does:  "move at most so many keys in a second; auto: as fast as the nodes answer quickly",
				Field: &Field{Name: "keys", Label: "Keys in a second, auto or unlimited", Value: "1000"}},
			{Name: "Reverse", Path: "switch/reverse", Command: "keyway reverse -c FILE",
				Does: "take the change back: the keys that have moved go back"},
		}
		if s.Paused {
			all[0] = Order{Name: "Resume", Path: "switch/resume", Command: "keyway resume -c FILE",
				Does: "go on after a pause"}
		}
	}
	all = append(all, Order{Command: "keyway status -c FILE", Does: "how far it is, and what to do next"})
	for i := range all {
		if !acts {
			all[i].Name = ""
		}
	}
	return all
}

// Words is the command with the value that the field has at first.
func (o *Order) Words() string {
	if o.Field == nil {
		return o.Command
	}
	return strings.ReplaceAll(o.Command, "{}", o.Field.Value)
}
