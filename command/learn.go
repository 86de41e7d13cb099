package command

import (
	"strings"

	"github.com/keyway-proxy/keyway/resp"
)

// Learn returns the command that a node's reply to COMMAND INFO name describes, or nil if
// the node does not know the command.
func Learn(reply []byte) *Command {
	n, rest, ok := resp.Elements(reply)
	if !ok || n != 1 {
		return nil
	}
	entry, ok := tree(rest)
	if !ok {
		return nil
	}
	c := learned(entry)
	if c == nil || c.Name == "" {
		return nil
	}
	return c
}

func learned(v value) *Command {
	l := v.list
	if len(l) < 6 {
		return nil
	}
	c := &Command{Name: strings.ToLower(l[0].text), ID: LearnedID, Arity: l[1].small(), Group: "module", Flags: Module}
	for _, f := range l[2].list {
		c.Flags |= flagNames[strings.ToLower(f.text)]
	}
	c.Categories = moduleCategories(c.Name)
	if len(l) > 6 {
		for _, f := range l[6].list {
			c.Categories |= CategoryOf(strings.TrimPrefix(f.text, "@"))
		}
	}
	if len(l) > 8 {
		for _, s := range l[8].list {
			c.Specs = append(c.Specs, learnedSpec(s))
		}
	} else if first, last, step := l[3].small(), l[4].small(), l[5].small(); first > 0 && step > 0 {
		// Redis before version 7 reports only the first key, the last key and the step.
		if last >= 0 {
			last -= first
		}
		c.Specs = []KeySpec{{Begin: AtIndex, Pos: first, Find: InRange, LastKey: last, Step: step}}
	}
	c.Specs = usedBy(c.Flags, c.Specs)
	if len(l) > 9 {
		for _, s := range l[9].list {
			if sub := learned(s); sub != nil && strings.HasPrefix(sub.Name, c.Name+"|") {
				c.Subs = append(c.Subs, *sub)
			}
		}
	}
	c.Handling = Refused
	switch {
	case c.Has(Blocking):
		c.Refusal = "it may block, and keyway does not know how it ends; send it to a node directly"
	case c.Keyed():
		c.Handling = ByKey
	default:
		c.Refusal = "it names no key by which its node could be told; send it to a node directly"
	}
	c.correct()
	c.Single = c.single()
	return c
}

func learnedSpec(v value) KeySpec {
	var s KeySpec
	for i := 0; i+1 < len(v.list); i += 2 {
		val := v.list[i+1]
		switch v.list[i].text {
		case "flags":
			for _, f := range val.list {
				s.NotKey = s.NotKey || f.text == "not_key"
				s.Incomplete = s.Incomplete || f.text == "incomplete"
				switch f.text {
				case "access":
					s.Use |= Reads
				case "insert", "delete", "update":
					s.Use |= Writes
				}
			}
		case "begin_search":
			spec := val.get("spec")
			switch val.get("type").text {
			case "index":
				s.Begin, s.Pos = AtIndex, spec.get("index").small()
			case "keyword":
				s.Begin, s.From = AtKeyword, spec.get("startfrom").small()
				s.Keyword = strings.ToLower(spec.get("keyword").text)
			}
		case "find_keys":
			spec := val.get("spec")
			s.Step = max(1, spec.get("keystep").small())
			switch val.get("type").text {
			case "range":
				s.Find, s.LastKey, s.Limit = InRange, spec.get("lastkey").small(), spec.get("limit").small()
			case "keynum":
				s.Find, s.KeyNumIdx, s.FirstKey = ByNumber, spec.get("keynumidx").small(), spec.get("firstkey").small()
			}
		}
	}
	return s
}

// value is a decoded reply. A RESP3 map is a flat list, as in RESP2.
type value struct {
	text string
	num  int64
	list []value
}

// small returns the number, limited to 2^20, so that sums and products of a few of them
// do not overflow. A position in a command is never larger.
func (v value) small() int { return int(max(-1<<20, min(1<<20, v.num))) }

// get returns the value of a key in a map, which is a flat list.
func (v value) get(key string) value {
	for i := 0; i+1 < len(v.list); i += 2 {
		if v.list[i].text == key {
			return v.list[i+1]
		}
	}
	return value{}
}

func tree(b []byte) (value, bool) {
	v, _, ok := treeAt(b, 0)
	return v, ok
}

func treeAt(b []byte, depth int) (v value, rest []byte, ok bool) {
	if len(b) == 0 || depth > 16 {
		return v, b, false
	}
	n, rest, ok := resp.Elements(b)
	if !ok {
		elem, rest, ok := resp.Split(b)
		if text, isText := resp.Bulk(elem); isText {
			v.text = string(text)
		} else if n, isInt := resp.Int(elem); isInt {
			v.num = n
		}
		return v, rest, ok
	}
	for ; ok && n > 0; n-- {
		var e value
		e, rest, ok = treeAt(rest, depth+1)
		v.list = append(v.list, e)
	}
	return v, rest, ok
}
