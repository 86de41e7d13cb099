package nutcracker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pool is a pool that keyway can serve.
const pool = "p:\n  listen: 127.0.0.1:22121\n  redis: true\n  servers:\n   - 127.0.0.1:7101:1 a\n" +
	"   - 127.0.0.1:7102:2\n"

// TestErrorsOfTwemproxysFile: an error names the file, the line, the pool and the value.
func TestErrorsOfTwemproxysFile(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", "nc.yml: no pool; twemproxy's file has the names of pools, and below each its keys"},
		{"p: [", "nc.yml: this is not valid YAML: "},
		{"p: 1\n", `nc.yml:1: "p" is no pool: it needs listen, servers and other keys`},
		{pool + pool, `nc.yml:7: two pools are called "p"`},
		{"p:\n  redis: true\n", `nc.yml:1: pool "p" has no listen`},
		{"p:\n  listen: 127.0.0.1:1\n", `nc.yml:1: pool "p" has no servers`},
		{pool + "  hash:\n", `nc.yml:7: pool "p": hash needs a value`},
		{pool + "  redis: true\n", `nc.yml:7: pool "p": redis appears twice`},
		{pool + "  hash: sha1\n", `nc.yml:7: pool "p": hash: "sha1" is no hash of twemproxy`},
		{pool + "  distribution: ring\n", `nc.yml:7: pool "p": distribution: "ring" is no distribution of twemproxy`},
		{pool + "  hash_tag: \"{\"\n", `nc.yml:7: pool "p": hash_tag: "{" is not of two characters`},
		{pool + "  timeout: 1s\n", `nc.yml:7: pool "p": timeout: "1s" is no whole number`},
		{pool + "  preconnect: yes\n", `nc.yml:7: pool "p": preconnect: "yes" is neither true nor false`},
		{"p:\n  listen: here\n", `nc.yml:2: pool "p": listen: "here" is no HOST:PORT and no path of a socket file`},
		{"p:\n  servers: x\n", `nc.yml:2: pool "p": servers needs a list`},
		{
			"p:\n  servers: [\"a:1\"]\n",
			`nc.yml:2: pool "p": "a:1" is no server: twemproxy writes HOST:PORT:WEIGHT [NAME]`,
		},
		{"p:\n  servers: [\"a:1:0\"]\n", `"a:1:0" is no server`},
	} {
		_, err := Parse("nc.yml", []byte(tc.text))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v\nwant %s", tc.text, err, tc.want)
		}
	}
}

// TestPoolsThatKeywayCannotServe: each is left out for a reason.
func TestPoolsThatKeywayCannotServe(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{pool, ""},
		{pool + "  distribution: modula\n  hash: md5\n", ""},
		{strings.Replace(pool, "true", "false", 1), "its servers are memcached (redis: true is missing)"},
		{pool + "  distribution: random\n", "distribution random sends a key to any server"},
		{"p:\n  listen: a:1\n  redis: true\n  distribution: random\n  servers: [\"a:1:1\"]\n", ""},
		{"p:\n  listen: a:1\n  redis: true\n  servers: [\"/r.sock:1\"]\n", "no server over a socket file (/r.sock)"},
		{pool + "  redis_auth: a${b}\n", "redis_auth has ${, which begins the name of a variable in keyway's file"},
	} {
		pools, err := Parse("nc.yml", []byte(tc.text))
		if err != nil {
			t.Fatal(err)
		}
		if got := pools[0].Unfit(); tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.text, got, tc.want)
		}
	}
}

// TestNamesOfServers: twemproxy places keys by these names when its file gives none.
func TestNamesOfServers(t *testing.T) {
	for line, want := range map[string]Server{
		"10.0.0.1:7101:3 db-1": {"db-1", "10.0.0.1:7101", 3},
		"10.0.0.1:7101:3":      {"10.0.0.1:7101", "10.0.0.1:7101", 3},
		"cache.local:11211:1":  {"cache.local", "cache.local:11211", 1},
		"/tmp/r.sock:1 r":      {"r", "/tmp/r.sock", 1},
		"/tmp/r.sock:1":        {"/tmp/r.sock", "/tmp/r.sock", 1},
	} {
		if got, ok := parseServer(line); !ok || got != want {
			t.Errorf("%s: %+v %v, want %+v", line, got, ok, want)
		}
	}
}

// TestConfigOfAPool compares keyway's configuration of a pool with every key with the file that
// a person has read. UPDATE=1 writes that file.
func TestConfigOfAPool(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("testdata", "nutcracker.yml"))
	if err != nil {
		t.Fatal(err)
	}
	pools, err := Parse("nutcracker.yml", source)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pools {
		made, warnings := p.Config("nutcracker.yml")
		file := filepath.Join("testdata", p.Name+".yml")
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(file, made, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(made) != string(want) {
			t.Errorf("%s: got\n%s", file, made)
		}
		if n := strings.Count(string(made), "# Warning: "); n != len(warnings) {
			t.Errorf("%s has %d warnings, and %d were returned", file, n, len(warnings))
		}
	}
}
