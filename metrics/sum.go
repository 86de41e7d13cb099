package metrics

import (
	"reflect"
	"slices"
)

// Sum returns the sum of the snapshots of all threads. There must be at least one.
func Sum(threads []Snapshot) Snapshot {
	all := threads[0]
	all.Calls, all.Errors = slices.Clone(all.Calls), slices.Clone(all.Errors)
	all.Families, all.Nodes = slices.Clone(all.Families), slices.Clone(all.Nodes)
	all.Locks, all.Rules, all.Users = slices.Clone(all.Locks), slices.Clone(all.Rules), slices.Clone(all.Users)
	all.Callers = slices.Clone(all.Callers)
	all.Threads, all.Commands = slices.Clone(all.Threads), cloneAll(all.Commands)
	for i := range threads[1:] {
		all.add(&threads[i+1])
	}
	return all
}

func (s *Snapshot) add(o *Snapshot) {
	add(&s.Gauges, &o.Gauges)
	add(&s.Counters, &o.Counters)
	add(&s.SwitchCounters, &o.SwitchCounters)
	for i := range o.Families {
		s.Families[i].Add(&o.Families[i])
	}
	for id, h := range o.Commands {
		switch {
		case h == nil:
		case s.Commands[id] == nil:
			clone := *h
			s.Commands[id] = &clone
		default:
			s.Commands[id].Add(h)
		}
	}
	s.Nodes = merge(s.Nodes, o.Nodes, func(a, b *Node) bool { return a.Name == b.Name && a.Addr == b.Addr })
	s.Locks = merge(s.Locks, o.Locks, func(a, b *LockNode) bool { return a.Addr == b.Addr })
	s.Rules = merge(s.Rules, o.Rules, func(a, b *LockRule) bool { return a.Match == b.Match })
	s.Users = merge(s.Users, o.Users, func(a, b *User) bool { return a.Name == b.Name })
	s.Callers = latest(s.Callers, o.Callers)
	s.Threads = append(s.Threads, o.Threads...)
	s.Covered, s.Paused = s.Covered && o.Covered, max(s.Paused, o.Paused)
}

// latest returns the later caller of each command.
func latest(all, others []Caller) []Caller {
	for _, o := range others {
		i := slices.IndexFunc(all, func(c Caller) bool { return c.Command == o.Command })
		switch {
		case i < 0:
			all = append(all, o)
		case o.At.After(all[i].At):
			all[i] = o
		}
	}
	return all
}

// merge adds each element of others to the one of all that is the same, or appends it.
func merge[T any](all, others []T, same func(a, b *T) bool) []T {
	for i := range others {
		o := &others[i]
		at := i // threads have the same nodes in the same order, but for a moment
		if at >= len(all) || !same(&all[at], o) {
			at = slices.IndexFunc(all, func(t T) bool { return same(&t, o) })
		}
		if at >= 0 {
			add(&all[at], o)
		} else {
			all = append(all, *o)
		}
	}
	return all
}

// AddConnection adds the counts of another connection to the node.
func (c *Connection) AddConnection(o *Connection) { add(c, o) }

// add merges the fields of struct b into those of struct a, as their merge tags say.
func add[T any](a, b *T) { combine(reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem(), "") }

func combine(a, b reflect.Value, rule string) {
	switch rule {
	case "max":
		a.SetInt(max(a.Int(), b.Int()))
		return
	case "min":
		a.SetInt(min(a.Int(), b.Int()))
		return
	case "all":
		a.SetBool(a.Bool() && b.Bool())
		return
	case "any":
		a.SetBool(a.Bool() || b.Bool())
		return
	case "first":
		if a.IsZero() {
			a.Set(b)
		}
		return
	}
	switch to := a.Addr().Interface().(type) { // reflection takes long for the many numbers of these
	case *Histogram:
		to.Add(b.Addr().Interface().(*Histogram))
		return
	case *ErrorReplies:
		to.add(b.Addr().Interface().(*ErrorReplies))
		return
	}
	switch a.Kind() {
	case reflect.Uint64:
		a.SetUint(a.Uint() + b.Uint())
	case reflect.Int, reflect.Int64:
		a.SetInt(a.Int() + b.Int())
	case reflect.Slice, reflect.Array:
		for i := range b.Len() {
			combine(a.Index(i), b.Index(i), "")
		}
	case reflect.Struct:
		rules := mergeRules[a.Type()]
		for i := range a.NumField() {
			combine(a.Field(i), b.Field(i), rules[i])
		}
	}
}

// mergeRules has the merge tags of the fields of structs, by the struct's type: reading a tag allocates.
var mergeRules = func() map[reflect.Type][]string {
	all := map[reflect.Type][]string{}
	var read func(t reflect.Type)
	read = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Slice, reflect.Array:
			read(t.Elem())
		case reflect.Struct:
			rules := make([]string, t.NumField())
			for i := range rules {
				rules[i] = t.Field(i).Tag.Get("merge")
				read(t.Field(i).Type)
			}
			all[t] = rules
		}
	}
	read(reflect.TypeFor[Snapshot]())
	return all
}()

// Since returns the difference between the counters and before, an earlier copy of them
// or the zero value.
func (c *Counters) Since(before *Counters) Counters {
	d := *c
	d.Calls, d.Errors = less(c.Calls, before.Calls), less(c.Errors, before.Errors)
	subtract(reflect.ValueOf(&d).Elem(), reflect.ValueOf(before).Elem())
	return d
}

// subtract takes the numbers in struct b from those in struct a. It leaves slices alone.
func subtract(a, b reflect.Value) {
	switch a.Kind() {
	case reflect.Uint64:
		a.SetUint(a.Uint() - b.Uint())
	case reflect.Struct:
		for i := range a.NumField() {
			subtract(a.Field(i), b.Field(i))
		}
	}
}

func less(a, before []uint64) []uint64 {
	a = slices.Clone(a)
	for i, n := range before {
		a[i] -= n
	}
	return a
}

// Clone returns a copy that shares nothing with c.
func (c *Counters) Clone() Counters { return c.Since(&Counters{}) }
