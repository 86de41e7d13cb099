package command

import (
	"strings"
	"testing"
)

func named(t *testing.T, name string) *Command {
	t.Helper()
	container, sub, isSub := strings.Cut(name, "|")
	c := Lookup([]byte(container))
	if c != nil && isSub {
		c = c.Sub([]byte(sub))
	}
	if c == nil {
		t.Fatalf("no command %s", name)
	}
	return c
}

func TestRowsAgree(t *testing.T) {
	seen := map[string]bool{}
	used := make([]bool, Actions)
	for i := range rows {
		r := &rows[i]
		if seen[r.name] {
			t.Errorf("%s has two rows", r.name)
		}
		seen[r.name] = true
		used[r.action] = true
		if strings.Contains(r.name, ".") {
			continue // a module's: nodes tell of it
		}
		c := named(t, r.name)
		if c.Handling == Local && c.Action == NoAction {
			t.Errorf("%s is answered by keyway, and its row does not say how", r.name)
		}
		if (c.Handling == Block) != (c.timeout != noTimeout) {
			t.Errorf("%s is %s, and the place of its timeout is %d", r.name, c.Handling, c.timeout)
		}
		if c.Handling == Block && !c.Has(Blocking) {
			t.Errorf("%s blocks, and COMMAND does not say so", r.name)
		}
		if c.InMulti == AnsweredAfter && c.Action == NoAction {
			t.Errorf("%s is to be answered behind a transaction, and its row does not say how", r.name)
		}
	}
	for a := range used {
		if Action(a) != NoAction && !used[a] {
			t.Errorf("action %d is no command's", a)
		}
	}
	for _, c := range ByID {
		if c.Has(Blocking) && c.Handling == ByKey {
			t.Errorf("%s blocks, and goes over shared connections", c.Name)
		}
	}
}

func TestContainersSpeakForSubcommands(t *testing.T) {
	for _, name := range []string{"client|id", "client|import-source"} {
		if !named(t, name).Is(KeepsCaching) {
			t.Errorf("%s lacks the trait of its container", name)
		}
	}
	for name, want := range map[string]Handling{
		"command|docs": AnyMaster, "acl|setuser": Local, "memory|usage": ByKey,
	} {
		if got := named(t, name).Handling; got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// TestSingleKeyIsThere: a command of the right arity has an argument where its only key
// stands, even one that a module counts the arguments of by itself.
func TestSingleKeyIsThere(t *testing.T) {
	module := learned(value{list: []value{
		{text: "json.get"}, {num: -1}, {}, {num: 1}, {num: 1}, {num: 1}, // COMMAND INFO of Redis 6
	}})
	for _, c := range append(ByID, module) {
		least := max(c.Arity, -c.Arity)
		if c.Single >= least {
			t.Errorf("%s may have %d arguments; its key is said to stand at %d", c.Name, least, c.Single)
		}
	}
}

// TestOneKey: a command has one key only if no argument can name another one.
func TestOneKey(t *testing.T) {
	for name, want := range map[string]bool{
		"get": true, "hset": true, "object|encoding": true,
		"move": false, "copy": false, "sort": false, "sort_ro": false, "mget": false, "eval": false, "exec": false,
	} {
		if got := named(t, name).OneKey(); got != want {
			t.Errorf("%s has one key: %v, want %v", name, got, want)
		}
	}
}
