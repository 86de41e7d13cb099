package config

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Listener is an address for clients.
type Listener struct {
	Addr  string `yaml:"addr"`
	TLS   *TLS   `yaml:"tls"`            // nil: clients do not encrypt
	Proxy *Proxy `yaml:"proxy_protocol"` // nil: clients connect by themselves
}

// Proxy makes a listener one for balancers. They say by the PROXY protocol which client each
// connection is from.
type Proxy struct {
	From Networks `yaml:"from"` // the balancers
}

// Listeners are the addresses for clients. In the file each is a text or an object.
type Listeners []Listener

// Addrs returns the addresses.
func (l Listeners) Addrs() []string {
	addrs := make([]string, len(l))
	for i := range l {
		addrs[i] = l[i].Addr
	}
	return addrs
}

// Find returns the listener of an address, or nil.
func (l Listeners) Find(addr string) *Listener {
	if i := slices.IndexFunc(l, func(l Listener) bool { return l.Addr == addr }); i >= 0 {
		return &l[i]
	}
	return nil
}

// TLS makes a listener speak TLS with its clients.
type TLS struct {
	Cert       string `yaml:"cert"`
	Key        string `yaml:"key"`
	ClientCA   string `yaml:"client_ca"`
	ClientAuth string `yaml:"client_auth"` // empty: ClientRequire if there is a ClientCA
	MinVersion string `yaml:"min_version"` // empty: 1.2
	UserFrom   string `yaml:"user_from"`   // empty: a certificate makes nobody a user

	loaded *certificates // nil until LoadCertificates
}

// The values of client_auth.
const (
	ClientRequire  = "require"  // clients need a certificate
	ClientOptional = "optional" // a certificate is verified if the client has one
)

// The values of user_from: what of a client's certificate is the name of its user.
const (
	UserFromCN  = "cn"  // the common name of its subject
	UserFromSAN = "san" // one of its subject alternative names
)

var tlsVersions = map[string]uint16{"": tls.VersionTLS12, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// certificates are the contents of a listener's files.
type certificates struct {
	pair      tls.Certificate
	clientCAs *x509.CertPool // nil: there are none
	files     []Certificate
}

// Certificate is a file with certificates.
type Certificate struct {
	File     string    // its path as in the configuration
	Names    []string  // the names and addresses that the first one is valid for
	NotAfter time.Time // when the first of them expires
	print    string    // a short fingerprint of all of them
	role     role
}

// role is what a certificate is for.
type role uint8

const (
	toClients role = iota // keyway shows it to clients, or verifies theirs by it
	toNodes               // keyway shows it to nodes
	ofNodes               // keyway verifies the nodes' certificates by it
)

// refusal says what happens when a certificate of the role has expired.
func (r role) refusal() string {
	return [...]string{"clients refuse it", "nodes refuse it", "keyway refuses nodes' certificates"}[r]
}

// describe returns the certificate's file and contents as a value in a list of changes.
func (c Certificate) describe() string {
	return fmt.Sprintf("%s (%s, valid until %s)", c.File, c.print, c.NotAfter.UTC().Format(time.DateOnly))
}

// expiryWarning is how long before its expiry a certificate deserves a warning.
const expiryWarning = 14 * 24 * time.Hour

// Warning returns what an operator should know about the certificate at a time; empty: nothing.
func (c Certificate) Warning(now time.Time) string {
	date := c.NotAfter.UTC().Format(time.DateOnly)
	switch left := c.NotAfter.Sub(now); {
	case left <= 0:
		return "the certificate has expired on " + date + ", so " + c.role.refusal() + "; replace the file"
	case left < expiryWarning:
		return "the certificate expires on " + date + "; replace the file before"
	}
	return ""
}

// checkTLS finds the errors of a listener's TLS that the file alone shows.
func checkTLS(c *Config, path string, l Listener) error {
	t := l.TLS
	_, known := tlsVersions[t.MinVersion]
	switch {
	case strings.HasPrefix(l.Addr, "unix://"):
		return c.Errorf(path, "leave tls out: only processes of this machine use a socket file",
			"TLS over a socket file")
	case t.Cert == "":
		return c.Errorf(path+".tls", "add cert: FILE, the certificate in PEM form", "no certificate")
	case t.Key == "":
		return c.Errorf(path+".tls", "add key: FILE, the private key in PEM form", "no private key")
	case t.ClientAuth != "" && t.ClientAuth != ClientRequire && t.ClientAuth != ClientOptional:
		return c.Errorf(path+".tls.client_auth", "write require or optional", "unknown client_auth %q", t.ClientAuth)
	case t.ClientAuth != "" && t.ClientCA == "":
		return c.Errorf(path+".tls.client_auth", "add client_ca: FILE, the authority that signs them",
			"no authority for clients' certificates")
	case t.UserFrom != "" && t.UserFrom != UserFromCN && t.UserFrom != UserFromSAN:
		return c.Errorf(path+".tls.user_from", "write cn or san", "unknown user_from %q", t.UserFrom)
	case t.UserFrom != "" && t.ClientCA == "":
		return c.Errorf(path+".tls.user_from", "add client_ca: FILE, the authority that signs them",
			"no authority for clients' certificates")
	case !known:
		return c.Errorf(path+".tls.min_version", `write "1.2" or "1.3"`, "unknown version %q", t.MinVersion)
	}
	return nil
}

// ListenPath returns the path of listener i for errors.
func ListenPath(c *Config, i int) string {
	if len(c.Listen) == 1 && !c.IsSet("listen[0]") {
		return "listen"
	}
	return fmt.Sprintf("listen[%d]", i)
}

// LoadCertificates reads the files of all listeners with TLS, that for operators included, unless it has read
// them before. Errors are *Error. An expired certificate is no error, see Certificate.Warning.
func LoadCertificates(c *Config) error {
	for i, l := range c.Listen {
		if l.TLS == nil || l.TLS.loaded != nil {
			continue
		}
		loaded, err := certificatesOf(c, ListenPath(c, i)+".tls", l.TLS)
		if err != nil {
			return err
		}
		l.TLS.loaded = loaded
	}
	if t := c.Admin.TLS; t != nil && t.loaded == nil {
		loaded, err := certificatesOf(c, "admin.tls", t)
		if err != nil {
			return err
		}
		t.loaded = loaded
	}
	return nil
}

func certificatesOf(c *Config, path string, t *TLS) (*certificates, error) {
	pair, chain, err := readPair(c, path, t.Cert, t.Key)
	if err != nil {
		return nil, err
	}
	loaded := &certificates{pair: pair, files: []Certificate{chain}}
	if t.ClientCA == "" {
		return loaded, nil
	}
	ca, authorities, err := readAuthorities(c, path+".client_ca", t.ClientCA)
	if err != nil {
		return nil, err
	}
	loaded.clientCAs = x509.NewCertPool()
	loaded.clientCAs.AppendCertsFromPEM(ca)
	loaded.files = append(loaded.files, authorities)
	return loaded, nil
}

// readPair reads a certificate and its private key. path is the section of the file that names
// them as cert and key.
func readPair(c *Config, path, certFile, keyFile string) (pair tls.Certificate, chain Certificate, err error) {
	cert, err := readPEM(c, path+".cert", certFile)
	if err != nil {
		return pair, chain, err
	}
	key, err := readPEM(c, path+".key", keyFile)
	if err != nil {
		return pair, chain, err
	}
	if chain, err = parseCertificates(certFile, cert); err != nil {
		return pair, chain, c.Errorf(path+".cert",
			"write the certificate in PEM form, then those of its intermediate authorities",
			"the file %q has no usable certificate: %v", certFile, err)
	}
	if pair, err = tls.X509KeyPair(cert, key); err != nil {
		return pair, chain, c.Errorf(path+".key",
			"name the private key of the certificate, in PEM form and not encrypted",
			"the file %q has no usable key for %q: %v", keyFile, certFile, err)
	}
	return pair, chain, nil
}

// readAuthorities reads a file with the certificates of authorities. path is its key.
func readAuthorities(c *Config, path, name string) (text []byte, file Certificate, err error) {
	if text, err = readPEM(c, path, name); err != nil {
		return nil, file, err
	}
	if file, err = parseCertificates(name, text); err != nil {
		return nil, file, c.Errorf(path, "write the authorities' certificates in PEM form",
			"the file %q has no usable certificate: %v", name, err)
	}
	return text, file, nil
}

func readPEM(c *Config, path, name string) ([]byte, error) {
	text, err := os.ReadFile(c.beside(name))
	if err != nil {
		return nil, c.Errorf(path, "make the file readable for keyway, or correct its path", "%v", err)
	}
	return text, nil
}

// parseCertificates describes the certificates in a text in PEM form.
func parseCertificates(file string, text []byte) (Certificate, error) {
	found, sum := Certificate{File: file}, sha256.New()
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return found, err
		}
		sum.Write(cert.Raw)
		if found.NotAfter.IsZero() {
			found.Names, found.NotAfter = slices.Clone(cert.DNSNames), cert.NotAfter
			for _, ip := range cert.IPAddresses {
				found.Names = append(found.Names, ip.String())
			}
		}
		if cert.NotAfter.Before(found.NotAfter) {
			found.NotAfter = cert.NotAfter
		}
	}
	if found.NotAfter.IsZero() {
		return found, errors.New("it has no block CERTIFICATE")
	}
	found.print = fmt.Sprintf("%x", sum.Sum(nil)[:4])
	return found, nil
}

// certificates returns the files with certificates that LoadCertificates has read, each once.
func (ls Listeners) certificates() (files []Certificate) {
	for _, l := range ls {
		if l.TLS == nil || l.TLS.loaded == nil {
			continue
		}
		for _, f := range l.TLS.loaded.files {
			if !slices.ContainsFunc(files, func(other Certificate) bool { return other.File == f.File }) {
				files = append(files, f)
			}
		}
	}
	return files
}

// files returns the names of the files with certificates and keys.
func (ls Listeners) files() (names []string) {
	for _, l := range ls {
		if l.TLS != nil {
			names = append(names, l.TLS.files()...)
		}
	}
	return names
}

// files returns the names of the files.
func (t *TLS) files() []string { return []string{t.Cert, t.Key, t.ClientCA} }

// Server returns the settings of the server's side. LoadCertificates must have succeeded.
func (t *TLS) Server() *tls.Config {
	s := &tls.Config{
		Certificates: []tls.Certificate{t.loaded.pair},
		MinVersion:   tlsVersions[t.MinVersion],
		ClientCAs:    t.loaded.clientCAs,
		// Small records would make the first replies arrive in parts sooner, as browsers
		// like it. A client of Redis waits for whole replies.
		DynamicRecordSizingDisabled: true,
	}
	switch {
	case t.ClientCA == "":
	case t.ClientAuth == ClientOptional:
		s.ClientAuth = tls.VerifyClientCertIfGiven
	default:
		s.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return s
}

// Same reports whether t and other are the same settings with the same contents of the files.
// Both may be nil.
func (t *TLS) Same(other *TLS) bool {
	if t == nil || other == nil {
		return t == other
	}
	if t.loaded == nil || other.loaded == nil || t.ClientAuth != other.ClientAuth || t.MinVersion != other.MinVersion {
		return false
	}
	same := func(a, b Certificate) bool { return a.print == b.print }
	if t.UserFrom != other.UserFrom {
		return false
	}
	return slices.EqualFunc(t.loaded.files, other.loaded.files, same)
}

// addTo adds the listeners to the values of a configuration.
func (l Listeners) addTo(f values, path, key string) {
	for _, of := range l {
		if of.TLS != nil {
			of.TLS.addValues(f, "listen["+of.Addr+"]", "listen[]")
		}
		if of.Proxy != nil {
			f.put("listen["+of.Addr+"].proxy_protocol.from", "listen[].proxy_protocol.from", of.Proxy.From.String())
		}
	}
	f.put(path, key, strings.Join(l.Addrs(), ", "))
}

// addValues adds the values of a listener's TLS to those of a configuration.
func (t *TLS) addValues(f values, path, key string) {
	cert, authority := t.Cert, t.ClientCA
	if t.loaded != nil {
		cert = t.loaded.files[0].describe()
		if authority != "" {
			authority = t.loaded.files[1].describe()
		}
	}
	for name, text := range map[string]string{
		"cert": cert, "key": t.Key, "client_ca": authority, "client_auth": t.ClientAuth, "min_version": t.MinVersion,
		"user_from": t.UserFrom,
	} {
		f.put(path+".tls."+name, key+".tls."+name, text)
	}
}

// Users returns the names of users that a client's verified certificate has, in the order in
// which they are tried. There are none if the certificate makes nobody a user.
func (t *TLS) Users(cert *x509.Certificate) (names []string) {
	switch t.UserFrom {
	case UserFromCN:
		names = append(names, cert.Subject.CommonName)
	case UserFromSAN:
		for _, uri := range cert.URIs {
			names = append(names, uri.String())
		}
		names = append(append(names, cert.DNSNames...), cert.EmailAddresses...)
	}
	return names
}
