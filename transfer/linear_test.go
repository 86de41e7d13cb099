package transfer_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// seen is what a command has done with a key.
type seen struct {
	*op
	name     string // GET, SET, NX or DEL; FLUSH
	value    string // of SET
	deadline int64  // of the value; 0: never
	any      bool   // while all keys are flushed, some may be there again for a moment
}

// held is the value of a key; "" is none.
type held struct {
	value    string
	deadline int64
}

// register is a key with one value, which may expire.
var register = porcupine.Model{
	Init: func() any { return held{} },
	Step: func(state, input, _ any) (bool, any) {
		has, in := state.(held), input.(*seen)
		mayBeThere := has.value != "" && (has.deadline == 0 || in.call <= has.deadline+int64(slack))
		mayLack := has.value == "" || has.deadline != 0 && in.end >= has.deadline
		ok := mayBeThere && in.found || mayLack && !in.found
		switch in.name {
		case "FLUSH":
			return true, held{}
		case "GET":
			return in.any || ok && (!in.found || in.got == has.value), has
		case "DEL":
			return in.any || ok, held{}
		case "NX":
			if in.found {
				return in.any || ok, has
			}
			return mayLack, held{in.value, in.deadline}
		}
		return true, held{in.value, in.deadline}
	},
	Equal: func(a, b any) bool { return a == b },
}

// history returns what has happened to a key, as porcupine needs it.
func (w *world) history(key string) (all []porcupine.Operation) {
	add := func(s *seen) {
		all = append(all, porcupine.Operation{ClientId: s.client, Input: s, Call: s.call, Return: s.end})
	}
	if first := w.first[key]; first != "" {
		add(&seen{op: &op{client: 1000, call: -2, end: -1}, name: "SET", value: first, deadline: w.deadlines[first]})
	}
	for i, f := range w.flushes {
		for pass := range 2 {
			add(&seen{op: &op{client: 2000 + 2*i + pass, call: f[0], end: f[1]}, name: "FLUSH"})
		}
	}
	for _, o := range w.ops {
		if o.key != key || !o.executed || o.isLost {
			continue
		}
		s := &seen{op: o, name: o.args[0]}
		if s.name == "SET" {
			s.value, s.deadline = o.args[2], w.deadlines[o.args[2]]
			if slices.Contains(o.args, "NX") {
				s.name = "NX"
			}
		}
		hasNoEffect := s.name == "GET" || s.name == "NX" && o.found || s.name == "DEL" && !o.found
		if hasNoEffect && o.end == int64(time.Hour) { // nobody knows what it has seen
			continue
		}
		for _, f := range w.flushes {
			s.any = s.any || o.call < f[1] && o.end > f[0]
		}
		add(s)
	}
	return all
}

// describe returns a key's history for people.
func (w *world) describe(key string) string {
	var b strings.Builder
	for _, o := range w.history(key) {
		s := o.Input.(*seen)
		fmt.Fprintf(&b, "\n%d: %.3f to %.3f ms: %s %q: found %v %q, deadline %.3f",
			s.client, float64(s.call)/1e6, float64(s.end)/1e6, s.name, s.value, s.found, s.got, float64(s.deadline)/1e6)
	}
	return b.String()
}
