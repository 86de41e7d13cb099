package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Networks are ranges of IP addresses. In the file each is a text, such as 10.0.0.0/8 or
// 10.1.2.3.
type Networks []netip.Prefix

// Contain reports whether the address is in one of the networks.
func (n Networks) Contain(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(n, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// String returns the networks as they can be written in a file.
func (n Networks) String() string {
	texts := make([]string, len(n))
	for i, p := range n {
		if texts[i] = p.String(); p.IsSingleIP() {
			texts[i] = p.Addr().String()
		}
	}
	return strings.Join(texts, ", ")
}

// decode implements ownForm: one network or a list of them.
func (p *Networks) decode(d *decoder, n *yaml.Node, path string) error {
	var texts []string
	if err := d.strings(n, &texts, path); err != nil {
		return err
	}
	if len(texts) == 0 {
		return d.errorf(n, path, "name one, such as 10.0.0.0/8, or leave the key out", "no network")
	}
	*p = make(Networks, len(texts))
	for i, text := range texts {
		network, remedy := parseNetwork(text)
		if remedy != "" {
			at := path
			if n.Kind == yaml.SequenceNode {
				at, n = fmt.Sprintf("%s[%d]", path, i), n.Content[i]
			}
			return d.errorf(n, at, remedy, "%q is not a network", text)
		}
		(*p)[i] = network
	}
	return nil
}

// parseNetwork parses an address, or an address and the length of its network. If it is
// neither, remedy says what to write.
func parseNetwork(text string) (network netip.Prefix, remedy string) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), ""
	}
	network, err := netip.ParsePrefix(text)
	switch {
	case err != nil || network.Addr().Is4In6():
		return network, "write an IP address or a network, such as 10.1.2.3, 10.0.0.0/8 or fd00::/8"
	case network != network.Masked():
		return network, fmt.Sprintf("write %v, or %v for this address alone", network.Masked(), network.Addr())
	}
	return network, ""
}

// ZoneOf returns the zone of the node at an address, "" if no pattern of replicas.zones fits it. If patterns of
// several zones do, it is the one that comes first in the alphabet.
func (r *Replicas) ZoneOf(addr string) string {
	for _, zone := range slices.Sorted(maps.Keys(r.Zones)) {
		if slices.ContainsFunc(r.Zones[zone], func(pattern string) bool { return fitsAddr(pattern, addr) }) {
			return zone
		}
	}
	return ""
}

// fitsAddr reports whether a network contains an address, or a pattern fits it or its host.
func fitsAddr(pattern, addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr // a socket file
	}
	if network, err := netip.ParsePrefix(pattern); err == nil {
		ip, err := netip.ParseAddr(host)
		return err == nil && network.Contains(ip.Unmap())
	}
	fits := func(text string) bool {
		ok, err := path.Match(pattern, text)
		return ok && err == nil
	}
	return fits(host) || fits(addr)
}

// checkZones returns an error if a pattern cannot be read.
func checkZones(c *Config) error {
	for _, zone := range slices.Sorted(maps.Keys(c.Replicas.Zones)) {
		for _, pattern := range c.Replicas.Zones[zone] {
			if _, err := path.Match(pattern, ""); err != nil {
				return c.Errorf("replicas.zones."+zone, "write a network such as 10.0.1.0/24, or a pattern such as "+
					"redis-a-*", "%q: %v", pattern, err)
			}
		}
	}
	return nil
}
