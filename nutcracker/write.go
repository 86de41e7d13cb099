package nutcracker

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Unfit returns why keyway cannot serve the pool; empty: it can.
func (p *Pool) Unfit() string {
	switch i := slices.IndexFunc(p.Servers, Server.onSocketFile); {
	case p.value("redis") != "true":
		return "its servers are memcached (redis: true is missing)"
	case p.value("distribution") == random && len(p.Servers) > 1:
		return "distribution random sends a key to any server, so that no layout finds it again; if the servers are " +
			"copies of each other, write a file with the master as the only node, and the others as its replicas"
	case strings.Contains(p.value("redis_auth"), "${"):
		return "redis_auth has ${, which begins the name of a variable in keyway's file; change the password first"
	case i >= 0:
		return fmt.Sprintf("keyway reaches no server over a socket file (%s)", p.Servers[i].Addr)
	}
	return ""
}

// Config returns keyway's configuration of a pool that is fit, and what will differ from
// twemproxy, which the configuration says too. file is the name of twemproxy's file.
func (p *Pool) Config(file string) (text []byte, warnings []string) {
	w := writer{pool: p}
	w.comment("keyway's configuration of the pool %s, made by keyway import from %s. Check it with "+
		"keyway check -c FILE --connect before you use it.", quoted(p.Name), file)
	w.admin()
	w.text.WriteByte('\n')
	w.body()
	return []byte(w.text.String()), w.warnings
}

// body writes what belongs to the pool.
func (w *writer) body() {
	w.listen()
	w.layout()
	w.servers()
	w.accounts()
	w.connections()
	w.ejects()
	if len(w.pool.unknown) > 0 {
		w.text.WriteByte('\n')
		w.warn("twemproxy 0.5 does not know these keys, nor does keyway: %s.", strings.Join(w.pool.unknown, ", "))
	}
}

// PoolsConfig returns keyway's configuration of several pools that are fit, and what will differ
// from twemproxy. file is the name of twemproxy's file.
func PoolsConfig(file string, pools []*Pool) (text []byte, warnings []string) {
	var w writer
	w.comment("keyway's configuration of %d pools, made by keyway import from %s. Check it with "+
		"keyway check -c FILE --connect before you use it.", len(pools), file)
	w.admin()
	w.put("\npools:")
	for _, p := range pools {
		of := writer{pool: p}
		of.body()
		w.put("\n  %s:", NameOf(p.Name))
		for line := range strings.Lines(of.text.String()) {
			if line != "\n" {
				line = "    " + line
			}
			w.text.WriteString(line)
		}
		for _, warning := range of.warnings {
			w.warnings = append(w.warnings, fmt.Sprintf("pool %s: %s", p.Name, warning))
		}
	}
	return []byte(w.text.String()), w.warnings
}

// unnamed is what keyway does not allow in the name of a pool.
var unnamed = regexp.MustCompile(`[^A-Za-z0-9_.-]`)

// NameOf returns keyway's name of a pool of twemproxy.
func NameOf(name string) string {
	name = unnamed.ReplaceAllString(name, "-")
	return name[:min(len(name), 64)]
}

// writer writes the configuration of one pool.
type writer struct {
	pool     *Pool
	text     strings.Builder
	warnings []string
}

// columns is the width of comments.
const columns = 100

// comment begins a paragraph with a comment.
func (w *writer) comment(format string, args ...any) {
	if w.text.Len() > 0 {
		w.text.WriteByte('\n')
	}
	w.lines(fmt.Sprintf(format, args...))
}

// lines writes a comment, in lines of bounded width.
func (w *writer) lines(text string) {
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > columns && line != "#" {
			fmt.Fprintln(&w.text, line)
			line = "#"
		}
		line += " " + word
	}
	fmt.Fprintln(&w.text, line)
}

// warn writes a comment about a difference from twemproxy.
func (w *writer) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.warnings = append(w.warnings, text)
	w.lines("Warning: " + text)
}

func (w *writer) put(format string, args ...any) { fmt.Fprintf(&w.text, format+"\n", args...) }

// given returns how twemproxy's file has the keys that it has, as "timeout: 400".
func (w *writer) given(keys ...string) string {
	var all []string
	for _, key := range keys {
		if v, ok := w.pool.values[key]; ok {
			all = append(all, key+": "+v)
		}
	}
	return strings.Join(all, ", ")
}

func (w *writer) listen() {
	p := w.pool
	addr := p.listen
	if strings.HasPrefix(addr, "/") {
		addr = "unix://" + addr
	}
	w.lines("Clients connect here, as to twemproxy. Two processes cannot listen on one address: end twemproxy " +
		"first, or try another one.")
	if p.permission != "" {
		w.warn("the socket file gets the permissions that keyway's umask says, not %s.", p.permission)
	}
	w.put("listen: %s", quoted(addr))
	if _, ok := p.values["backlog"]; ok {
		w.lines(w.given("backlog") + " has no key: keyway asks for the longest that the system allows " +
			"(net.core.somaxconn).")
	}
}

// admin writes the address for operators, which belongs to the process.
func (w *writer) admin() {
	w.comment("Metrics, health checks and keyway reload are at this address, instead of twemproxy's statistics (-s).")
	w.put("#admin: 127.0.0.1:9380")
}

// layout writes what decides where keys lie.
func (w *writer) layout() {
	p := w.pool
	distribution, hash := p.value("distribution"), p.value("hash")
	layout := map[string]string{ketama: "ring", modula: "modulo", random: "ring"}[distribution]
	given := cmp.Or(w.given("distribution", "hash"), "neither distribution nor hash, so ketama and fnv1a_64")
	w.comment("twemproxy's file says %s. The layout %s with the same hash, hash tag, names and weights places each "+
		"key on the server where twemproxy has it. Do not change them while the nodes have data: no key would move.",
		given, layout)
	w.put("layout: %s", layout)
	w.put("%s: {hash: %s}", layout, hash)
	if tag, ok := p.values["hash_tag"]; ok {
		w.lines("Only the text between these two characters places a key that has both.")
		w.put("hash_tag: %s", strconv.Quote(tag))
		return
	}
	w.lines("twemproxy's file has no hash_tag, so the whole key places it.")
	w.put(`hash_tag: ""`)
}

func (w *writer) servers() {
	p := w.pool
	if p.value("distribution") == modula {
		w.comment("HOST:PORT:WEIGHT NAME of twemproxy's servers. modulo places keys by the names' order " +
			"and the weights.")
	} else {
		w.comment("HOST:PORT:WEIGHT NAME of twemproxy's servers. The ring places keys by names and weights, " +
			"not by addresses. A server without a name is called by its address; it must keep that name when it moves.")
	}
	w.put("nodes:")
	for _, s := range p.Servers {
		w.put("  - {name: %s, addr: %s, weight: %d}", quoted(s.Name), quoted(s.Addr), s.Weight)
	}
}

// accounts writes the password, which twemproxy asks clients for and sends to servers.
func (w *writer) accounts() {
	if password := w.pool.value("redis_auth"); password != "" {
		w.comment("redis_auth: twemproxy asks clients for this password, and sends it to the servers. Better write " +
			"it into a file, with clients: {password_file: FILE} and backend: {password_file: FILE}.")
		w.put("clients: {password: %s%s}", strconv.Quote(password), w.maxClients(", "))
	} else if most := w.maxClients(""); most != "" {
		w.comment("client_connections: so many clients may be connected.")
		w.put("clients: {%s}", most)
	}
	switch db := w.pool.value("redis_db"); {
	case db == "" || db == "0":
	case w.pool.value("redis_auth") == "":
		w.comment("redis_db: clients begin in this database of the servers, as with twemproxy. They see its number, " +
			"and a client that sends SELECT 0, as some do, leaves it.")
		w.put(`users: [{name: default, acl: "on nopass ~* &* +@all", database: %s}]`, db)
	default:
		w.comment("redis_db: %s has no effect beside redis_auth.", db)
		w.warn("twemproxy sends SELECT %s before AUTH, so a server with a password refuses it, and the keys are in "+
			"database 0. That is where clients of keyway look. Compare with INFO keyspace of the servers; if the keys "+
			"are in database %[1]s, write the user default with the password and database: %[1]s.", db)
	}
}

// maxClients returns the text of clients.max, empty if there is no limit.
func (w *writer) maxClients(before string) string {
	n := w.pool.value("client_connections")
	if n == "" || n == "0" {
		return ""
	}
	return before + "max: " + n
}

// connections writes what is about the connections to the servers.
func (w *writer) connections() {
	p := w.pool
	var values, remarks []string
	if ms := p.value("timeout"); ms != "" && ms != "0" {
		values = append(values, fmt.Sprintf("connect_timeout: %sms", ms), fmt.Sprintf("request_timeout: %sms", ms))
		remarks = append(remarks, w.given("timeout")+" is in milliseconds, for connecting and for each reply. Below "+
			"5 s, commands fail behind a slow script that Redis would finish.")
	} else {
		remarks = append(remarks, "twemproxy's file has no timeout: it waits for ever. keyway waits 1 s for a "+
			"connection and 6 s for a reply; change that with connect_timeout and request_timeout.")
	}
	if n := p.value("server_connections"); n != "" && n != "0" {
		count, _ := strconv.Atoi(n)
		values = append(values, fmt.Sprintf("connections: %d", min(count, maxConnections)))
		remarks = append(remarks, w.given("server_connections")+" is for each thread of keyway; one is usually enough.")
	}
	if password := p.value("redis_auth"); password != "" {
		values = append(values, "password: "+strconv.Quote(password))
	}
	if given := w.given("preconnect", "tcpkeepalive"); given != "" {
		remarks = append(remarks, given+": no key, because keyway connects to all nodes when it starts, and always "+
			"turns on TCP keepalive.")
	}
	w.comment("%s", strings.Join(remarks, " "))
	if len(values) > 0 {
		w.put("backend: {%s}", strings.Join(values, ", "))
	}
}

// maxConnections is the most that backend.connections allows.
const maxConnections = 64

// ejects says what keyway does about a dead server.
func (w *writer) ejects() {
	given := w.given("auto_eject_hosts", "server_failure_limit", "server_retry_timeout")
	if w.pool.value("auto_eject_hosts") != "true" {
		if given != "" {
			w.comment("%s: no key. Commands for a dead node fail at once, and keyway connects again by itself.", given)
		}
		return
	}
	w.comment("%s: no key.", given)
	w.warn("keyway ejects no server: while one is dead, commands for its keys fail, and other servers do not take " +
		"them over. For clients that treat an error as a miss of the cache, nothing changes but the load; otherwise " +
		"give the node a replica and sentinels.")
	w.lines("Keys that were written while a server was ejected lie where keyway does not look. keyway verify lists " +
		"them. Over more than 1 % of such keys keyway does not start; for a cache, allow them:")
	w.put("#placement: {misplaced: allow}")
}

// plain is a text that YAML and keyway read as it is.
var plain = regexp.MustCompile(`^[A-Za-z0-9/]([A-Za-z0-9_./:-]*[A-Za-z0-9_/-])?$`)

// quoted returns a text as a value of the file.
func quoted(s string) string {
	if plain.MatchString(s) && !strings.EqualFold(s, "null") {
		return s
	}
	return strconv.Quote(s)
}
