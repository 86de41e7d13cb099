package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"gopkg.in/yaml.v3"
)

// NodeTLS says how keyway speaks TLS with nodes or sentinels. In the file it is an object, or
// true for one without keys, or false. A nil *NodeTLS means what the section above it says; at
// the top, that keyway does not encrypt.
type NodeTLS struct {
	CA                 string `yaml:"ca"` // empty: the authorities that the system trusts
	Cert               string `yaml:"cert"`
	Key                string `yaml:"key"`
	ServerName         string `yaml:"server_name"` // empty: the host of the address
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`

	off    bool        // written as false
	client *tls.Config // nil until the files are read, and if off
	files  []Certificate
}

// decode decodes an object, true or false.
func (t *NodeTLS) decode(d *decoder, n *yaml.Node, path string) error {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return d.structure(n, reflect.ValueOf(t).Elem(), path)
	}
	s, err := d.scalar(n, path)
	if err != nil {
		return err
	}
	if s != "true" && s != "false" {
		return d.errorf(n, path, "write {ca: FILE}, true for the system's authorities, or false", "%q where keys "+
			"are expected", s)
	}
	t.off = s == "false"
	return nil
}

// nodeTLSs returns the settings of the file for nodes and sentinels, by their paths.
func nodeTLSs(c *Config) map[string]*NodeTLS {
	all := map[string]*NodeTLS{"backend.tls": c.Backend.TLS}
	for i, n := range c.Nodes {
		all[fmt.Sprintf("nodes[%d].tls", i)] = n.TLS
		if n.Sentinel != nil {
			all[fmt.Sprintf("nodes[%d].sentinel.tls", i)] = n.Sentinel.TLS
		}
	}
	for i, r := range c.Locks.Quorum {
		all[fmt.Sprintf("locks.quorum[%d].tls", i)] = r.TLS
	}
	maps.DeleteFunc(all, func(_ string, t *NodeTLS) bool { return t == nil })
	return all
}

// readNodeTLS checks the settings for nodes and sentinels, and reads their files.
func readNodeTLS(c *Config) error {
	all := nodeTLSs(c)
	for _, path := range sortedKeys(all) {
		if err := all[path].read(c, path); err != nil {
			return err
		}
	}
	return checkLockTLS(c)
}

func (t *NodeTLS) read(c *Config, path string) error {
	switch {
	case t.off:
		return nil
	case t.Cert != "" && t.Key == "":
		return c.Errorf(path, "add key: FILE, the certificate's private key in PEM form",
			"a certificate without its key")
	case t.Key != "" && t.Cert == "":
		return c.Errorf(path, "add cert: FILE, the certificate in PEM form", "a private key without its certificate")
	case t.InsecureSkipVerify && t.CA != "":
		return c.Errorf(path+".insecure_skip_verify", "keep one of them", "both ca, to verify nodes by, and not to "+
			"verify them")
	}
	t.client = &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify,
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
		// A node waits for whole commands; see TLS.Server.
		DynamicRecordSizingDisabled: true,
	}
	if t.CA != "" {
		text, file, err := readAuthorities(c, path+".ca", t.CA)
		if err != nil {
			return err
		}
		t.client.RootCAs = x509.NewCertPool()
		t.client.RootCAs.AppendCertsFromPEM(text)
		file.role = ofNodes
		t.files = append(t.files, file)
	}
	if t.Cert != "" {
		pair, file, err := readPair(c, path, t.Cert, t.Key)
		if err != nil {
			return err
		}
		t.client.Certificates = []tls.Certificate{pair}
		file.role = toNodes
		t.files = append(t.files, file)
	}
	return nil
}

// Client returns the settings of the client's side; nil if keyway does not encrypt. While the
// files have the same contents, so do the settings. They must not be changed.
func (t *NodeTLS) Client() *tls.Config {
	if t == nil {
		return nil
	}
	return t.client
}

// TLSOfNode returns the settings for the servers of a node, and the section of the file that has
// them. A node below 0 stands for those of a cluster.
func TLSOfNode(c *Config, node int) (t *NodeTLS, section string) {
	if node >= 0 && c.Nodes[node].TLS != nil {
		return c.Nodes[node].TLS, fmt.Sprintf("nodes[%d]", node)
	}
	return c.Backend.TLS, "backend"
}

// TLSOfSentinels returns the settings for the sentinels of a node, and the section of the file
// that has them.
func TLSOfSentinels(c *Config, node int) (t *NodeTLS, section string) {
	if of := c.Nodes[node].Sentinel.TLS; of != nil {
		return of, fmt.Sprintf("nodes[%d].sentinel", node)
	}
	return TLSOfNode(c, node)
}

// TLSOfLocks returns the settings for the nodes of a rule of locks.quorum, and the section of the
// file that has them.
func TLSOfLocks(c *Config, rule int) (t *NodeTLS, section string) {
	if of := c.Locks.Quorum[rule].TLS; of != nil {
		return of, fmt.Sprintf("locks.quorum[%d]", rule)
	}
	return c.Backend.TLS, "backend"
}

// checkLockTLS checks that two rules do not have different settings for a node.
func checkLockTLS(c *Config) error {
	for i, r := range c.Locks.Quorum {
		for j, addr := range r.Nodes {
			for other := range i {
				mine, _ := TLSOfLocks(c, i)
				theirs, _ := TLSOfLocks(c, other)
				if mine.describe() != theirs.describe() && slices.Contains(c.Locks.Quorum[other].Nodes, addr) {
					return c.Errorf(fmt.Sprintf("locks.quorum[%d].nodes[%d]", i, j), "write the same tls in both rules",
						"locks.quorum[%d] has another tls for %q", other, addr)
				}
			}
		}
	}
	return nil
}

// describe returns the settings, and the contents of their files, as a value in a list of changes.
func (t *NodeTLS) describe() string {
	if t == nil {
		return ""
	}
	if t.off {
		return "false"
	}
	values := values{map[string]string{}, map[string][]string{}}
	t.addTo(values, "", "")
	text := ""
	for _, name := range sortedKeys(values.text) {
		if v := values.text[name]; v != "" && v != "false" {
			text += name + " " + v + ", "
		}
	}
	return "{" + text + "}"
}

// addTo adds the settings to the values of a configuration.
func (t *NodeTLS) addTo(f values, path, key string) {
	if t == nil {
		return
	}
	ca, cert := t.CA, t.Cert
	for _, file := range t.files {
		switch file.role {
		case ofNodes:
			ca = file.describe()
		case toNodes:
			cert = file.describe()
		}
	}
	f.put(path, key, map[bool]string{true: "false", false: "true"}[t.off])
	for name, text := range map[string]string{
		"ca": ca, "cert": cert, "key": t.Key, "server_name": t.ServerName,
		"insecure_skip_verify": fmt.Sprint(t.InsecureSkipVerify),
	} {
		f.put(join(path, name), join(key, name), text)
	}
}

// Certificates returns the files with certificates that were read, each once: those of the
// listeners, if LoadCertificates has read them, that for operators included, and those for nodes and sentinels.
func Certificates(c *Config) []Certificate {
	files := slices.Concat(c.Listen, Listeners{c.Admin.listener()}).certificates()
	all := nodeTLSs(c)
	for _, path := range sortedKeys(all) {
		for _, f := range all[path].files {
			if !slices.ContainsFunc(files, func(other Certificate) bool { return other.File == f.File }) {
				files = append(files, f)
			}
		}
	}
	return files
}
