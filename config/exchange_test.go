package config

import (
	"reflect"
	"strings"
	"testing"
)

// itself is an environment that leaves references as they are.
func itself(name string) (string, bool) { return "${" + name + "}", true }

// TestPlacementText: a configuration that is read from the text places keys on the same
// nodes, at the same addresses, and has no secret.
func TestPlacementText(t *testing.T) {
	secrets := "backend: {username: us3r, password: s3cr3t}\nclients: {password: s3cr3t}\nadmin: h:9\n"
	nodes := "nodes: [{name: \"a ${b} \\\"\", addr: 127.0.0.1:6380, weight: 3, replicas: [h:2]}, " +
		"{name: s, sentinel: {master: m, addrs: [h:3, h:4], username: us3r, password: s3cr3t}}]\n"
	texts := []string{"layout: ring\nlisten: h:1\n" + nodes, "slots: {seeds: [h:1, h:2]}\n"}
	for layout, p := range placements {
		for _, rest := range append(append(p.same, p.other...), p.base) {
			texts = append(texts, "layout: "+layout+"\n"+rest)
		}
	}
	for _, text := range texts {
		c, err := Parse("x.yml", []byte(text+secrets), itself)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		sent := c.PlacementText()
		if strings.Contains(string(sent), "s3cr3t") || strings.Contains(string(sent), "us3r") {
			t.Errorf("shows a secret: %s", sent)
		}
		got, err := ParsePlacement("keyway at h:9", sent)
		if err != nil {
			t.Fatalf("%s: %v", sent, err)
		}
		if got.PlacementHash() != c.PlacementHash() || got.Clustered() != c.Clustered() {
			t.Errorf("%s places keys otherwise than %s", sent, text)
		}
		got.UseAccounts(c)
		if !reflect.DeepEqual(got.Nodes, c.Nodes) || !reflect.DeepEqual(got.Backend, c.Backend) {
			t.Errorf("%+v, want %+v", got.Nodes, c.Nodes)
		}
		if c.Clustered() && !reflect.DeepEqual(got.Slots.Seeds, c.Slots.Seeds) {
			t.Errorf("seeds %q, want %q", got.Slots.Seeds, c.Slots.Seeds)
		}
	}
}

// nodeWith returns a placement whose node has one more key.
func nodeWith(key string) string { return "layout: ring\nnodes: [{name: a, addr: a:1, " + key + "}]\n" }

// TestParsePlacementRefuses: a text from others can make keyway read no file, and has to be a
// placement.
func TestParsePlacementRefuses(t *testing.T) {
	const ring = "layout: ring\n" + placementNodes
	for text, want := range map[string]string{
		ring + "backend: {password_file: exchange_test.go}\n": "x:3:", // its lines would be the password
		ring + "clients: {password_file: exchange_test.go}\n": "clients does not decide where keys live; leave it out",
		ring + "listen: h:1\n":                                "x:3:9: listen: listen does not decide where keys live",

		nodeWith("password_command: [sh]"): "password_command does not decide where keys live; leave it out",
		nodeWith("username: u"):            "username does not decide where keys live",

		"layout: ring\n": "layout ring without nodes",
		"layout: rung\n": `unknown layout "rung"`,
		"]":              "x:1",
	} {
		_, err := ParsePlacement("x", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
