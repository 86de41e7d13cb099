package config

import "testing"

// placementNodes and placementRules begin configurations of TestPlacementHash.
const (
	placementNodes = "nodes: [{name: a, addr: h:1}, {name: b, addr: h:2}]\n"
	numberRule     = "{prefix: u, from: 1, to: 9, node: a}"
	textRule       = "{from: k, node: b}"
)

func ranges(fallback, rules string) string {
	return placementNodes + "range: {default: " + fallback + ", rules: [" + rules + "]}\n"
}

func static(a, b string) string {
	return placementNodes + "slots: {static: {a: " + a + ", b: " + b + "}}\n"
}

// placements are configurations by layout: the first, others that place keys like it, and
// others that do not.
var placements = map[string]struct {
	base        string
	same, other []string
}{
	"ring": {
		base: placementNodes,
		same: []string{
			"nodes: [{name: b, addr: h:3}, {name: a, addr: h:4, weight: 1}]\n",
			placementNodes + "threads: 2\nmodulo: {hash: md5}\nring: {hash: murmur}\nhash_tag: \"{}\"\n",
			ranges("a", textRule),
		},
		other: []string{
			"nodes: [{name: a, addr: h:1}, {name: c, addr: h:2}]\n",
			"nodes: [{name: a, addr: h:1}]\n",
			"nodes: [{name: a, addr: h:1}, {name: b, addr: h:2, weight: 2}]\n",
			placementNodes + "ring: {hash: md5}\n",
			placementNodes + "hash_tag: \"\"\n",
		},
	},
	"modulo": {
		base:  placementNodes,
		same:  []string{placementNodes + "ring: {hash: md5}\n"},
		other: []string{placementNodes + "modulo: {hash: md5}\n"},
	},
	"range": {
		base: ranges("a", numberRule+", "+textRule),
		same: []string{ranges("a", textRule+", {prefix: u, from: 01, to: 9, node: a}")},
		other: []string{
			ranges("b", numberRule+", "+textRule),
			ranges("a", "{prefix: u, from: 1, to: 8, node: a}, "+textRule),
			ranges("a", numberRule+", {from: k, to: z, node: b}"),
			ranges("a", numberRule+", "+textRule) + "hash_tag: \"\"\n",
		},
	},
	"slots": {
		base: static("0-99", "100-16383"),
		same: []string{
			static("[50-99, 0-49]", "100-16383"),
			static("0-99", "100-16383") + "hash_tag: \"\"\n",
		},
		other: []string{
			static("0-98", "99-16383"), "slots: {seeds: [h:1]}\n",
			"slots: {seeds: [h:1], cluster: east}\n", "slots: {seeds: [h:1], cluster: west}\n",
		},
	},
}

// TestPlacementHash: the hash changes with each thing that decides where keys go, and with
// nothing else.
func TestPlacementHash(t *testing.T) {
	hash := func(layout, yaml string) string {
		c, err := Parse("x.yml", []byte("layout: "+layout+"\n"+yaml), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatalf("%s: %v", yaml, err)
		}
		return c.PlacementHash()
	}
	seen := map[string]string{}
	unseen := func(layout, yaml string) string {
		h := hash(layout, yaml)
		if other, taken := seen[h]; taken {
			t.Errorf("%s: the hash of %s for\n%s", layout, other, yaml)
		}
		seen[h] = layout + " " + yaml
		return h
	}
	for layout, of := range placements {
		base := unseen(layout, of.base)
		for _, yaml := range of.same {
			if hash(layout, yaml) != base {
				t.Errorf("%s: another hash for\n%s", layout, yaml)
			}
		}
		for _, yaml := range of.other {
			unseen(layout, yaml)
		}
	}
	for yaml, same := range map[string]string{
		"slots: {seeds: [h:1]}\n":                "slots: {seeds: [h:2]}\nhash_tag: \"\"\n",
		"slots: {seeds: [h:1], cluster: east}\n": "slots: {seeds: [h:2, h:3], cluster: east}\n",
	} {
		if hash("slots", yaml) != hash("slots", same) {
			t.Errorf("other hashes for\n%s%s", yaml, same)
		}
	}
	if got := hash("slots", "slots: {seeds: [h:1]}\n"); got != "3b478a0a3fc6" {
		t.Errorf("the hash in registers of clusters without a name was another one: %s", got)
	}
}
