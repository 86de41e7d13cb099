package main

import "strings"

// newer has commands that are newer than the servers from which the table is generated:
// commands with keys, and commands that keyway treats specially. The source of each is its
// page at https://redis.io/docs/latest/commands/NAME/ and, for key specifications,
// src/commands/NAME.json of the Redis version in its line.
//
// Each line has: name arity group since flags keys. Keys are "1" for the argument at 1,
// "1,2" for two arguments, "num:1:2:1" for a count at argument 1 with the first key at 2 and
// a step of 1, or "-" for none. Their ACL categories follow from the flags and the group. A
// write counts as one that also reads its keys.
const newer = `
waitaof          4 generic     7.2.0 -        -
client|no-touch  3 connection  7.2.0 -        -
client|setinfo   4 connection  7.2.0 -        -
cluster|myshardid 2 cluster    7.2.0 -        -

hexpire         -6 hash        7.4.0 write    1
hpexpire        -6 hash        7.4.0 write    1
hexpireat       -6 hash        7.4.0 write    1
hpexpireat      -6 hash        7.4.0 write    1
hexpiretime     -5 hash        7.4.0 readonly 1
hpexpiretime    -5 hash        7.4.0 readonly 1
httl            -5 hash        7.4.0 readonly 1
hpttl           -5 hash        7.4.0 readonly 1
hpersist        -5 hash        7.4.0 write    1

hgetex          -5 hash        8.0.0 write    1
hsetex          -6 hash        8.0.0 write    1
hgetdel         -5 hash        8.0.0 write    1
vadd            -5 vector_set  8.0.0 write    1
vcard            2 vector_set  8.0.0 readonly 1
vdim             2 vector_set  8.0.0 readonly 1
vemb            -3 vector_set  8.0.0 readonly 1
vgetattr         3 vector_set  8.0.0 readonly 1
vinfo            2 vector_set  8.0.0 readonly 1
vismember        3 vector_set  8.0.0 readonly 1
vlinks          -3 vector_set  8.0.0 readonly 1
vrandmember     -2 vector_set  8.0.0 readonly 1
vrem             3 vector_set  8.0.0 write    1
vsetattr         4 vector_set  8.0.0 write    1
vsim            -4 vector_set  8.0.0 readonly 1

xackdel         -6 stream      8.2.0 write    1
xdelex          -5 stream      8.2.0 write    1
cluster|slot-stats -4 cluster  8.2.0 -        -

delex           -2 string      8.4.0 write    1
digest           2 string      8.4.0 readonly 1
msetex          -4 string      8.4.0 write    num:1:2:2
vrange          -4 vector_set  8.4.0 readonly 1
cluster|migration -4 cluster   8.4.0 admin    -

xcfgset         -2 stream      8.6.0 write    1
hotkeys         -2 server      8.6.0 admin    -

increx          -2 string      8.8.0 write    1
xnack           -3 stream      8.8.0 write    1
arcount          2 array       8.8.0 readonly 1
ardel           -3 array       8.8.0 write    1
ardelrange      -3 array       8.8.0 write    1
arget            3 array       8.8.0 readonly 1
argetrange      -3 array       8.8.0 readonly 1
argrep          -3 array       8.8.0 readonly 1
arinfo          -2 array       8.8.0 readonly 1
arinsert        -3 array       8.8.0 write    1
arlastitems     -3 array       8.8.0 readonly 1
arlen            2 array       8.8.0 readonly 1
armget          -3 array       8.8.0 readonly 1
armset          -4 array       8.8.0 write    1
arnext           2 array       8.8.0 readonly 1
arop            -3 array       8.8.0 readonly 1
arring          -3 array       8.8.0 write    1
arscan          -3 array       8.8.0 readonly 1
arseek           3 array       8.8.0 write    1
arset           -4 array       8.8.0 write    1

lmovem          -5 list        8.10.0 write   1,2
blmovem         -6 list        8.10.0 write,blocking 1,2
sunioncard      -3 set         8.10.0 readonly num:1:2:1
sdiffcard       -3 set         8.10.0 readonly num:1:2:1
himport         -2 hash        8.10.0 write   -
backup          -2 server      8.10.0 admin   -
`

// addNewer adds the commands of newer that entries does not have.
func addNewer(entries []*entry) []*entry {
	for _, line := range strings.Split(strings.TrimSpace(newer), "\n") {
		f := strings.Fields(line)
		if len(f) != 6 {
			continue
		}
		e := &entry{name: f[0], arity: atoi(f[1]), group: f[2], since: f[3]}
		e.source = "https://redis.io/docs/latest/commands/" + strings.ReplaceAll(f[0], "|", "-") + "/"
		if f[4] != "-" {
			for _, flag := range strings.Split(f[4], ",") {
				e.flags = append(e.flags, flagIdents[flag])
			}
		}
		e.categories = categoriesOf(e.group, f[4])
		e.specs = keysOf(f[5], use(strings.Contains(f[4], "readonly") || strings.Contains(f[4], "write"),
			strings.Contains(f[4], "write")))
		container, _, isSub := strings.Cut(e.name, "|")
		if !isSub {
			if find(entries, e.name) == nil {
				entries = append(entries, e)
			}
			continue
		}
		if c := find(entries, container); c != nil && find(c.subs, e.name) == nil {
			c.subs = append(c.subs, e)
		}
	}
	return entries
}

// groupCategories are the groups that are ACL categories too.
var groupCategories = map[string]string{
	"generic": "keyspace", "string": "string", "list": "list", "set": "set", "sorted-set": "sortedset",
	"hash": "hash", "stream": "stream", "connection": "connection", "pubsub": "pubsub",
}

func categoriesOf(group, flags string) (list []string) {
	for _, c := range []struct{ flag, categories string }{
		{"write", "write"}, {"readonly", "read"}, {"admin", "admin dangerous"}, {"blocking", "blocking"},
	} {
		if strings.Contains(flags, c.flag) {
			list = append(list, strings.Fields(c.categories)...)
		}
	}
	if c := groupCategories[group]; c != "" {
		list = append(list, c)
	}
	return append(list, "slow")
}

func keysOf(s string, use []string) []string {
	if s == "-" {
		return nil
	}
	end := "}"
	if len(use) > 0 {
		end = ", " + use[0] + "}"
	}
	if n, ok := strings.CutPrefix(s, "num:"); ok {
		f := strings.Split(n, ":")
		at, first := atoi(f[0]), atoi(f[1])
		return []string{"{Begin: AtIndex, Pos: " + f[0] + ", Find: ByNumber, KeyNumIdx: 0, FirstKey: " +
			itoa(first-at) + ", Step: " + f[2] + end}
	}
	var specs []string
	for _, pos := range strings.Split(s, ",") {
		specs = append(specs, "{Begin: AtIndex, Pos: "+pos+", Find: InRange, LastKey: 0, Step: 1"+end)
	}
	return specs
}
