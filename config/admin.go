package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"gopkg.in/yaml.v3"
)

// operators says where keyway answers operators, and who may act there.
type operators struct {
	Admin Admin `yaml:"admin"`
	Audit Audit `yaml:"audit"`
	following
}

// operatorKeys are the keys of operators.
var operatorKeys = []key{
	{path: "admin", effect: AtOnce,
		meaning: "The address of `/metrics`, `/healthz`, `/readyz` and of what `keyway reload` and `keyway plan` " +
			"ask for, over HTTP. Empty: there is none. With a token or TLS it is an object: " +
			"`{listen: HOST:PORT, token_file: FILE, tls: {cert: FILE, key: FILE}}`. See " +
			"[Who may act](security.md#who-may-act).",
		change: "Always set it in production, on an address that clients cannot reach."},
	{path: "admin.listen", effect: AtOnce, initial: "required, if `admin` is an object",
		meaning: "The address, if `admin` is an object.",
		change:  "With `token_file` or `tls`."},
	{path: "admin.token_file", effect: AtOnce, secret: true,
		meaning: "A file with a token of 16 characters or more, as `openssl rand -hex 32` prints it. What changes " +
			"something then needs it, `Authorization: Bearer TOKEN`, or a [user](security.md#who-may-act). " +
			"`keyway reload` and other commands read it from the same file. While the file has several lines, " +
			"each is valid. A path that is not absolute begins at " +
			"this file's directory. It is read again when it changes.",
		change: "Always set it where others than operators reach the address, or to use `/debug/pprof`, " +
			"`/clients/kill` or to set `/log-level`, which need it."},
	{path: "admin.console", effect: AtOnce,
		meaning: "The address of a port that answers KEYWAY STATUS and other questions of operators to redis-cli. It " +
			"does so without the threads that serve clients. To set the level of the log, a client needs the " +
			"token: `AUTH TOKEN`. The port has no TLS. See " +
			"[Look at a running keyway](operations.md#look-at-a-running-keyway).",
		change: "keyway is to be looked at while its threads are stuck or clients use up `clients.max`."},
	{path: "admin.tls.cert", effect: AtOnce, initial: "required with `tls`",
		meaning: "As `listen[].tls.cert`, for operators.",
		change:  "The address is not on loopback."},
	{path: "admin.tls.key", effect: AtOnce, initial: "required with `tls`",
		meaning: "As `listen[].tls.key`, for operators.",
		change:  "With `cert`."},
	{path: "admin.tls.client_ca", effect: AtOnce,
		meaning: "A file with the authorities that sign the operators' certificates. Without it they need none.",
		change:  "Only who has a certificate may read metrics. Probes and Prometheus need one then."},
	{path: "admin.tls.client_auth", effect: AtOnce, initial: "`require`, with `client_ca`",
		meaning: "As `listen[].tls.client_auth`, for operators.",
		change:  "Prometheus has no certificate, and operators have one."},
	{path: "admin.tls.user_from", effect: AtOnce,
		meaning: "Which part of an operator's certificate the log shows as the user: `cn` or `san`. Needs " +
			"`client_ca`. It gives no right: what acts needs the token or a user all the same.",
		change: "The log should name who has acted."},
	{path: "admin.tls.min_version", effect: AtOnce, initial: "`1.2`",
		meaning: "The lowest version of TLS: `1.2` or `1.3`.",
		change:  "All operators' tools know TLS 1.3."},
	{path: "audit.file", effect: AtOnce,
		meaning: "A file for what operators do, a JSON object in each line. Empty: that is in the log, with " +
			"the message `operator action`. keyway opens the file for each line, so it may be moved away at any " +
			"time. See [What operators did](operations.md#what-operators-did).",
		change: "The lines should be kept longer than the log, or apart from it."},
	{path: "traces.endpoint", effect: AtOnce,
		meaning: "Where traces of commands are sent: the URL of a collector for OpenTelemetry's OTLP over HTTP, such " +
			"as `http://127.0.0.1:4318`. Empty: nowhere. Headers, certificates and timeouts are taken from the " +
			"environment variables `OTEL_EXPORTER_OTLP_...`, and attributes from `OTEL_RESOURCE_ATTRIBUTES`. See " +
			"[Follow one command](operations.md#follow-one-command).",
		change: "You have a collector. `${OTEL_EXPORTER_OTLP_ENDPOINT:-}` takes it from the environment."},
	{path: "traces.service", effect: AtOnce,
		meaning: "The `service.name` of the traces.",
		change:  "Several keyways serve different things."},
	{path: "traces.one_in", effect: AtOnce, max: 1 << 30,
		remedy:  "write a whole number from 0 to 1073741824, such as 1000",
		meaning: "One in so many commands gets a trace. `1`: all do. `0`: none but slow ones.",
		change:  "You need more examples, or fewer."},
	{path: "traces.slow", effect: AtOnce,
		meaning: "Every command gets a trace that SLOWLOG lists; see `slowlog.slower_than`.",
		change:  "A sample is enough."},
	{path: "traces.keys", effect: AtOnce,
		meaning: "What a trace shows of the command's first key: `none`, `hash` (the first 16 digits of its " +
			"SHA-256), or `full`, up to 128 bytes. Values and other arguments are never shown.",
		change: "Who reads the traces may know the keys."},
	{path: "access_log.file", effect: AtOnce,
		meaning: "A file for the access log: a JSON object for each command. `stdout`: keyway's standard output. " +
			"Empty: there is none. keyway opens the file anew all the time, so it may be moved away. See " +
			"[Follow one command](operations.md#follow-one-command).",
		change: "You want to know who sends what."},
	{path: "access_log.one_in", effect: AtOnce, max: 1 << 30,
		remedy:  "write a whole number from 0 to 1073741824, such as 100",
		meaning: "One in so many commands gets a line. `1`: all do. `0`: none but slow ones.",
		change:  "You need all commands, or the file grows too fast."},
	{path: "access_log.slow", effect: AtOnce,
		meaning: "Every command gets a line that SLOWLOG lists; see `slowlog.slower_than`.",
		change:  "A sample is enough."},
	{path: "access_log.keys", effect: AtOnce,
		meaning: "As `traces.keys`, for the access log.",
		change:  "Who reads the file may know the keys."},
}

// following says which commands keyway follows on their way, and where it writes what it has seen.
type following struct {
	Traces    Traces    `yaml:"traces"`
	AccessLog AccessLog `yaml:"access_log"`
}

// The values of traces.keys and access_log.keys: what is shown of keys.
const (
	KeysNone = "none"
	KeysHash = "hash"
	KeysFull = "full"
)

// Traces says of which commands OpenTelemetry gets a trace, and where.
type Traces struct {
	Endpoint string `yaml:"endpoint"` // empty: nowhere
	Service  string `yaml:"service"`
	OneIn    int    `yaml:"one_in"` // 0: none but slow ones
	Slow     bool   `yaml:"slow"`
	Keys     string `yaml:"keys"`
}

// AccessLog says of which commands there is a line, and where.
type AccessLog struct {
	File  string `yaml:"file"`   // empty: nowhere
	OneIn int    `yaml:"one_in"` // 0: none but slow ones
	Slow  bool   `yaml:"slow"`
	Keys  string `yaml:"keys"`
}

// defaultFollowing is what the sections traces and access_log have if they say nothing else.
var defaultFollowing = following{
	Traces:    Traces{Service: "keyway", OneIn: 1000, Slow: true, Keys: KeysNone},
	AccessLog: AccessLog{OneIn: 100, Slow: true, Keys: KeysNone},
}

// Stdout is the value of access_log.file that stands for keyway's standard output.
const Stdout = "stdout"

// AccessLogFile returns the path of the access log, or Stdout; empty: there is none.
func AccessLogFile(c *Config) string {
	if f := c.AccessLog.File; f == "" || f == Stdout {
		return f
	}
	return c.beside(c.AccessLog.File)
}

// TracesURL returns where traces are sent to over OTLP/HTTP; empty: nowhere. The endpoint may be that of all
// signals, as in OTEL_EXPORTER_OTLP_ENDPOINT.
func TracesURL(c *Config) string {
	const path = "/v1/traces"
	at := strings.TrimSuffix(c.Traces.Endpoint, "/")
	if at == "" || strings.HasSuffix(at, path) {
		return at
	}
	return at + path
}

func checkFollowing(c *Config) error {
	for _, of := range []struct{ path, value string }{
		{"traces.keys", c.Traces.Keys}, {"access_log.keys", c.AccessLog.Keys},
	} {
		if !slices.Contains([]string{KeysNone, KeysHash, KeysFull}, of.value) {
			return c.Errorf(of.path, "write none, hash or full", "%q is not known", of.value)
		}
	}
	if c.Traces.Endpoint == "" {
		return nil
	}
	const path = "traces.endpoint"
	u, err := url.Parse(c.Traces.Endpoint)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return c.Errorf(path, "write the URL of a collector for OTLP over HTTP, such as http://127.0.0.1:4318",
			"%q is not such a URL", c.Traces.Endpoint)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return c.Errorf(path, "put secrets into the environment variable OTEL_EXPORTER_OTLP_HEADERS",
			"the URL has more than a host and a path")
	}
	return nil
}

// Audit says where keyway records what operators did.
type Audit struct {
	File string `yaml:"file"` // empty: in the log
}

// AuditFile returns the path of the file in which keyway records what operators did; empty: in the log.
func AuditFile(c *Config) string {
	if c.Audit.File == "" {
		return ""
	}
	return c.beside(c.Audit.File)
}

// Admin is the address for operators. In the file it is a text or an object.
type Admin struct {
	Listen    string `yaml:"listen"` // empty: there is none
	TokenFile string `yaml:"token_file"`
	TLS       *TLS   `yaml:"tls"`     // nil: operators do not encrypt
	Console   string `yaml:"console"` // where KEYWAY is answered over Redis's protocol; empty: nowhere else

	tokens []string // of TokenFile
}

// decode implements ownForm.
func (a *Admin) decode(d *decoder, n *yaml.Node, path string) (err error) {
	if n.Kind == yaml.MappingNode {
		return d.structure(n, reflect.ValueOf(a).Elem(), path)
	}
	a.Listen, err = d.scalar(n, path)
	return err
}

// addTo adds the address and who may act there to the values of a configuration.
func (a Admin) addTo(f values, path, key string) {
	f.put(path, key, a.Listen)
	f.put(path+".token_file", key+".token_file", strings.Join(append([]string{a.TokenFile}, a.tokens...), "\n"))
	f.put(path+".console", key+".console", a.Console)
	if a.TLS != nil {
		a.TLS.addValues(f, path, key)
	}
}

// Tokens returns the tokens that allow operators to act. There are none if there is no token_file.
func (a *Admin) Tokens() []string { return a.tokens }

// listener returns the address as a Listener: both have the same rules.
func (a *Admin) listener() Listener { return Listener{Addr: a.Listen, TLS: a.TLS} }

func checkAdmin(c *Config) error {
	a := &c.Admin
	switch {
	case a.Listen == "" && (a.TokenFile != "" || a.TLS != nil || a.Console != ""):
		return c.Errorf("admin", "add listen: HOST:PORT", "no address")
	case a.Listen == "":
		return nil
	}
	if err := c.checkAddr("admin", a.Listen, "127.0.0.1:9380"); err != nil {
		return err
	}
	if slices.ContainsFunc(c.Listen, func(own Listener) bool { return sameAddress(own.Addr, a.Listen) }) {
		return c.Errorf("admin", "write another port", "%q is where keyway listens for clients", a.Listen)
	}
	if err := checkConsole(c); err != nil {
		return err
	}
	if a.TLS != nil {
		return checkTLS(c, "admin", a.listener())
	}
	return nil
}

func checkConsole(c *Config) error {
	const path = "admin.console"
	a := &c.Admin
	if a.Console == "" {
		return nil
	}
	if err := c.checkAddr(path, a.Console, "127.0.0.1:9381"); err != nil {
		return err
	}
	if sameAddress(a.Console, a.Listen) ||
		slices.ContainsFunc(c.Listen, func(own Listener) bool { return sameAddress(own.Addr, a.Console) }) {
		return c.Errorf(path, "write another port", "%q is an address of keyway already", a.Console)
	}
	return nil
}

// Client returns the settings of a tool on the same machine that has read the same file, and nil if operators do
// not encrypt. The tool trusts the certificate that the file names, besides those that the system trusts.
func (a *Admin) Client(c *Config) (*tls.Config, error) {
	if a.TLS == nil {
		return nil, nil
	}
	text, err := readPEM(c, "admin.tls.cert", a.TLS.Cert)
	if err != nil {
		return nil, err
	}
	own, _ := pem.Decode(text)
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		// VerifyConnection does it.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if own != nil && bytes.Equal(own.Bytes, s.PeerCertificates[0].Raw) {
				return nil
			}
			others := x509.NewCertPool()
			for _, cert := range s.PeerCertificates[1:] {
				others.AddCert(cert)
			}
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: s.ServerName, Intermediates: others})
			return err
		},
	}, nil
}

const (
	shortestToken = 16
	tokenRemedy   = "write one of 16 to 512 letters, digits and -._~+/=, as `openssl rand -hex 32` prints it"
)

// readTokens reads the tokens of operators, one in a line.
func readTokens(c *Config) error {
	const path = "admin.token_file"
	a := &c.Admin
	if a.TokenFile == "" {
		return nil
	}
	text, err := os.ReadFile(c.beside(a.TokenFile))
	if err != nil {
		return c.Errorf(path, "make the file readable for keyway, or correct its path", "%v", err)
	}
	tokens, err := ParseTokens(text)
	if err != nil {
		return c.Errorf(path, tokenRemedy, "the file %q %v", a.TokenFile, err)
	}
	a.tokens = tokens
	return nil
}

// ParseTokens returns the tokens of a token_file with that text. Its errors say what the file has or lacks, and
// show no token.
func ParseTokens(text []byte) (tokens []string, err error) {
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		token := strings.TrimSpace(line)
		switch {
		case token == "":
			continue
		case len(token) < shortestToken || len(token) > 512:
			return nil, fmt.Errorf("has a token of %d characters in line %d", len(token), number)
		case strings.ContainsFunc(token, func(r rune) bool { return !ofToken(r) }):
			return nil, fmt.Errorf("has a character in line %d that no token has", number)
		}
		tokens = append(tokens, token)
	}
	if len(tokens) == 0 {
		return nil, fmt.Errorf("has no token")
	}
	return tokens, nil
}

// ofToken reports whether a token may have the character (RFC 6750, section 2.1).
func ofToken(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("-._~+/=", r)
}

// isOpen reports whether others can read a file. The group may be keyway's way to read a file that belongs to
// another user, such as a secret of Kubernetes.
func isOpen(file os.FileInfo) bool {
	secret := os.FileMode(0o044)
	if of, ok := file.Sys().(*syscall.Stat_t); ok && os.Geteuid() != 0 && int(of.Uid) != os.Geteuid() {
		secret = 0o004
	}
	return file.Mode().Perm()&secret != 0
}

// AdminWarnings returns what an operator should know about who could get the token.
func AdminWarnings(c *Config) (warnings []string) {
	a := &c.Admin
	if a.Console != "" && (&Listener{Addr: a.Console}).IsBeyondLoopback() {
		warnings = append(warnings, "admin.console: others than this machine can look at keyway, and a token for it "+
			"crosses the network in clear; listen on 127.0.0.1, and use ssh")
	}
	if a.TokenFile == "" {
		return warnings
	}
	if file, err := os.Stat(c.beside(a.TokenFile)); err == nil && isOpen(file) {
		warnings = append(warnings, fmt.Sprintf("admin.token_file: others than its owner can read %q (mode %#o), and "+
			"so act as operators; chmod 600 it", a.TokenFile, file.Mode().Perm()))
	}
	if a.TLS == nil && a.listener().IsBeyondLoopback() {
		warnings = append(warnings, "admin: the token crosses the network in clear, since the address is not "+
			"loopback; add tls")
	}
	return warnings
}
